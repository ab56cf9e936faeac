// etcd's write-ahead log, the package that etcd's raft uses. One append is one Save with an entry for each record;
// Save returns after fdatasync, since there are new entries.
//
// Why these settings are the fair ones:
//   - Segments of 64 MB, allocated ahead by the package itself: etcd's defaults.
//   - The package has one writer; concurrent writers take turns at a lock. etcd itself merges proposals before they
//     come to the log, which is raft's work and not the log's.
//   - A reader calls ReadAll, as etcd does when it starts: all entries are decoded and held in memory.
//   - The log knows no tenants; --tenants is ignored.
package main

import (
	"fmt"
	"path/filepath"
	"sync"

	"go.etcd.io/etcd/raft/raftpb"
	"go.etcd.io/etcd/wal"
	"go.etcd.io/etcd/wal/walpb"
	"go.uber.org/zap"
)

func logDirectory(directory string) string { return filepath.Join(directory, "wal") }

func openLog(directory string) (func(int, [][]byte) error, func() error, error) {
	log, err := wal.Create(zap.NewNop(), logDirectory(directory), []byte("benchmark"))
	if err != nil {
		return nil, nil, fmt.Errorf("etcd wal: %v", err)
	}
	var lock sync.Mutex
	var index uint64
	save := func(_ int, records [][]byte) error {
		entries := make([]raftpb.Entry, len(records))
		for slot, record := range records {
			entries[slot] = raftpb.Entry{Term: 1, Type: raftpb.EntryNormal, Data: record}
		}
		lock.Lock()
		defer lock.Unlock()
		for slot := range entries {
			index++
			entries[slot].Index = index
		}
		return log.Save(raftpb.HardState{}, entries)
	}
	return save, log.Close, nil
}

func scanLog(directory string) (records, payloadBytes uint64, err error) {
	log, err := wal.OpenForRead(zap.NewNop(), logDirectory(directory), walpb.Snapshot{})
	if err != nil {
		return 0, 0, err
	}
	_, _, entries, err := log.ReadAll()
	if err != nil {
		return 0, 0, err
	}
	for _, entry := range entries {
		records++
		payloadBytes += uint64(len(entry.Data))
	}
	return records, payloadBytes, nil
}

func main() {
	run(engine{name: "etcd", open: openLog, scan: scanLog})
}
