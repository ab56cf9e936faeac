// bbolt as the OpenTelemetry Collector uses it for its persistent queue (extension file_storage), with fsync on.
// The queue keeps one bucket; an item is put under its number in decimal digits, and in the same Update transaction
// the queue's write index is put under "wi". One append is one item: the Collector stores a request as it came,
// however many records are in it.
//
// Why these settings are the fair ones:
//   - NoFreelistSync and the hash map free list are what file_storage sets; fsync is its option, off by default, and
//     without it an append is not durable.
//   - The queue holds a lock while it puts an item, so writers take turns; bbolt allows one writer anyway.
//   - A reader gets the items by their numbers, as the queue does after a restart, but in one transaction and without
//     removing them: faster than the Collector can.
//   - The Collector has no tenants within a queue; --tenants is ignored.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

var (
	bucketName    = []byte("default")
	writeIndexKey = []byte("wi")
)

// Before the records in an item: their number and size, so that a reader can count them.
const itemHeaderSize = 8

func databaseFile(directory string) string { return filepath.Join(directory, "exporter_otlp_traces") }

func openDatabase(directory string, readOnly bool) (*bolt.DB, error) {
	return bolt.Open(databaseFile(directory), 0o600, &bolt.Options{
		Timeout: time.Second, NoSync: false, NoFreelistSync: true, FreelistType: bolt.FreelistMapType, ReadOnly: readOnly,
	})
}

func openQueue(directory string) (func(int, [][]byte) error, func() error, error) {
	database, err := openDatabase(directory, false)
	if err != nil {
		return nil, nil, err
	}
	err = database.Update(func(transaction *bolt.Tx) error {
		_, err := transaction.CreateBucketIfNotExists(bucketName)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var lock sync.Mutex
	var writeIndex uint64
	put := func(_ int, records [][]byte) error {
		item := make([]byte, itemHeaderSize, itemHeaderSize+len(records)*len(records[0]))
		binary.LittleEndian.PutUint32(item, uint32(len(records)))
		binary.LittleEndian.PutUint32(item[4:], uint32(len(records[0])))
		for _, record := range records {
			item = append(item, record...)
		}
		lock.Lock()
		defer lock.Unlock()
		next := make([]byte, 8)
		binary.LittleEndian.PutUint64(next, writeIndex+1)
		err := database.Update(func(transaction *bolt.Tx) error {
			bucket := transaction.Bucket(bucketName)
			if err := bucket.Put(writeIndexKey, next); err != nil {
				return err
			}
			return bucket.Put([]byte(strconv.FormatUint(writeIndex, 10)), item)
		})
		if err == nil {
			writeIndex++
		}
		return err
	}
	return put, database.Close, nil
}

func scanQueue(directory string) (records, payloadBytes uint64, err error) {
	// bbolt would make an empty file where there is none, even to read it.
	if _, err := os.Stat(databaseFile(directory)); err != nil {
		return 0, 0, err
	}
	database, err := openDatabase(directory, true)
	if err != nil {
		return 0, 0, err
	}
	defer database.Close()
	var checksum byte
	err = database.View(func(transaction *bolt.Tx) error {
		bucket := transaction.Bucket(bucketName)
		if bucket == nil {
			return fmt.Errorf("no bucket %s", bucketName)
		}
		writeIndex := binary.LittleEndian.Uint64(bucket.Get(writeIndexKey))
		for index := uint64(0); index < writeIndex; index++ {
			item := bucket.Get([]byte(strconv.FormatUint(index, 10)))
			if len(item) < itemHeaderSize {
				return fmt.Errorf("item %d is missing", index)
			}
			records += uint64(binary.LittleEndian.Uint32(item))
			payloadBytes += uint64(len(item) - itemHeaderSize)
			// The item lies in a memory map: it is only read from the disk when it is touched.
			for place := 0; place < len(item); place += 512 {
				checksum ^= item[place]
			}
		}
		return nil
	})
	if checksum == 1 && records == 0 {
		err = fmt.Errorf("nothing was read")
	}
	return records, payloadBytes, err
}

func main() {
	run(engine{name: "bbolt", open: openQueue, scan: scanQueue})
}
