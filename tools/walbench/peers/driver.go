// What the peers written in Go have in common: the command line, the writers, the measured window, the histogram and
// the line of JSON. It measures in the same way as driver.hpp does for C++; see there.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Set by the linker: the version of Debian's package, since the libraries do not name their own.
var version = "unknown"

type arguments struct {
	operation, directory, corpus        string
	seconds                             float64
	writers, batch, recordSize, tenants int
}

type engine struct {
	name string
	// Opens the log; what it returns appends records of a tenant and comes back when they are durable.
	open func(directory string) (appendRecords func(tenant int, records [][]byte) error, close func() error, err error)
	scan func(directory string) (records, payloadBytes uint64, err error)
}

func fail(status int, format string, values ...interface{}) {
	text := fmt.Sprintf(format, values...)
	fmt.Fprintf(os.Stderr, "%s: %s\n", os.Args[0], strings.Join(strings.Fields(text), " "))
	os.Exit(status)
}

func run(engine engine) {
	if len(os.Args) < 2 || (os.Args[1] != "append" && os.Args[1] != "scan") {
		fail(2, "usage: append|scan --directory DIR [options]")
	}
	var given arguments
	given.operation = os.Args[1]
	flags := flag.NewFlagSet(os.Args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&given.directory, "directory", "", "")
	flags.StringVar(&given.corpus, "corpus", "", "")
	flags.Float64Var(&given.seconds, "seconds", 3, "")
	flags.IntVar(&given.writers, "writers", 1, "")
	flags.IntVar(&given.batch, "batch", 1, "")
	flags.IntVar(&given.recordSize, "record-size", 512, "")
	flags.IntVar(&given.tenants, "tenants", 1, "")
	// Our own driver has modes and kinds of I/O; a peer has one of each.
	flags.String("mode", "", "")
	flags.String("io", "", "")
	flags.Bool("records-only", false, "")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(2, "%v", err)
	}
	if given.directory == "" || given.seconds <= 0 || given.writers < 1 || given.batch < 1 || given.recordSize < 1 ||
		given.tenants < 1 {
		fail(2, "--directory is missing, or a number is not above 0")
	}
	var result map[string]interface{}
	var err error
	if given.operation == "append" {
		result, err = measureAppends(engine, given)
	} else {
		result, err = measureScan(engine, given)
	}
	if err != nil {
		fail(3, "%v", err)
	}
	result["driver"], result["version"], result["operation"] = engine.name, version, given.operation
	line, err := json.Marshal(result)
	if err != nil {
		fail(3, "%v", err)
	}
	fmt.Println(string(line))
}

func measureAppends(engine engine, given arguments) (map[string]interface{}, error) {
	corpus, err := os.ReadFile(given.corpus)
	if err != nil {
		return nil, err
	}
	if len(corpus) < given.recordSize {
		return nil, fmt.Errorf("the corpus is smaller than one record")
	}
	appendRecords, closeLog, err := engine.open(given.directory)
	if err != nil {
		return nil, err
	}
	// An append counts if it ends within the window: then the rate is right even if some appends take very long.
	begin := time.Now().Add(500 * time.Millisecond)
	end := begin.Add(time.Duration(given.seconds * float64(time.Second)))
	histograms := make([]histogram, given.writers)
	failures := make(chan error, given.writers)
	var isFailed int32
	var group sync.WaitGroup
	for index := 0; index < given.writers; index++ {
		group.Add(1)
		go func(writer int) {
			defer group.Done()
			records := make([][]byte, given.batch)
			// Each writer begins elsewhere in the corpus, so that writers do not share content.
			position := len(corpus) / given.writers * writer / given.recordSize * given.recordSize
			for round := 0; atomic.LoadInt32(&isFailed) == 0; round++ {
				for slot := range records {
					if position+given.recordSize > len(corpus) {
						position = 0
					}
					records[slot] = corpus[position : position+given.recordSize]
					position += given.recordSize
				}
				start := time.Now()
				if !start.Before(end) {
					return
				}
				if err := appendRecords((writer+round*given.writers)%given.tenants, records); err != nil {
					atomic.StoreInt32(&isFailed, 1)
					failures <- err
					return
				}
				finish := time.Now()
				if !finish.Before(begin) && finish.Before(end) {
					histograms[writer].add(uint64(finish.Sub(start)))
				}
			}
		}(index)
	}
	time.Sleep(time.Until(begin))
	written, device := processCounter("write_bytes"), deviceBytesWritten(given.directory)
	time.Sleep(time.Until(end))
	written, device = processCounter("write_bytes")-written, deviceBytesWritten(given.directory)-device
	group.Wait()
	if isFailed != 0 {
		return nil, <-failures
	}
	if err := closeLog(); err != nil {
		return nil, err
	}
	var all histogram
	for index := range histograms {
		all.merge(&histograms[index])
	}
	records := all.total * uint64(given.batch)
	return map[string]interface{}{
		"mode": "goroutines", "writers": given.writers, "batch": given.batch, "recordSize": given.recordSize,
		"tenants": given.tenants, "seconds": end.Sub(begin).Seconds(), "appends": all.total, "records": records,
		"payloadBytes": records * uint64(given.recordSize), "writtenBytes": written, "deviceBytes": device,
		"latency": map[string]uint64{
			"p50": all.percentile(0.5), "p90": all.percentile(0.9), "p99": all.percentile(0.99),
			"p999": all.percentile(0.999), "max": all.largest,
		},
		"histogram": all.buckets(),
	}, nil
}

func measureScan(engine engine, given arguments) (map[string]interface{}, error) {
	read, start := processCounter("read_bytes"), time.Now()
	records, payloadBytes, err := engine.scan(given.directory)
	seconds := time.Since(start).Seconds()
	if err != nil {
		return nil, err
	}
	return map[string]interface{}{
		"seconds": seconds, "records": records, "payloadBytes": payloadBytes,
		"diskBytes": processCounter("read_bytes") - read,
	}, nil
}

// 32 buckets for each power of two: no bucket is wider than 3.2 %.
type histogram struct {
	counts         [60 * 32]uint64
	total, largest uint64
}

func bucket(value uint64) int {
	if value < 32 {
		return int(value)
	}
	exponent := bits.Len64(value) - 1
	return (exponent-4)*32 + int(value>>(exponent-5)&31)
}

func upperBound(index int) uint64 {
	if index < 32 {
		return uint64(index)
	}
	return uint64(32+index%32+1)<<(index/32-1) - 1
}

func (histogram *histogram) add(nanoseconds uint64) {
	histogram.counts[bucket(nanoseconds)]++
	histogram.total++
	if nanoseconds > histogram.largest {
		histogram.largest = nanoseconds
	}
}

func (histogram *histogram) merge(other *histogram) {
	for index, count := range other.counts {
		histogram.counts[index] += count
	}
	histogram.total += other.total
	if other.largest > histogram.largest {
		histogram.largest = other.largest
	}
}

// Interpolated within the bucket, as in driver.hpp.
func (histogram *histogram) percentile(fraction float64) uint64 {
	rank, before := fraction*float64(histogram.total), 0.0
	for index, count := range histogram.counts {
		here := float64(count)
		if here > 0 && before+here >= rank {
			lower, upper := 0.0, float64(upperBound(index))
			if index > 0 {
				lower = float64(upperBound(index - 1))
			}
			if upper > float64(histogram.largest) {
				upper = float64(histogram.largest)
			}
			return uint64(lower + (upper-lower)*(rank-before)/here)
		}
		before += here
	}
	return histogram.largest
}

func (histogram *histogram) buckets() [][2]uint64 {
	result := [][2]uint64{}
	for index, count := range histogram.counts {
		if count > 0 {
			result = append(result, [2]uint64{upperBound(index), count})
		}
	}
	return result
}

func processCounter(name string) uint64 {
	text, _ := os.ReadFile("/proc/self/io")
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, name+": ") {
			value, _ := strconv.ParseUint(line[len(name)+2:], 10, 64)
			return value
		}
	}
	return 0
}

// All that reached the block device below the directory; see driver.hpp.
func deviceBytesWritten(directory string) uint64 {
	var status syscall.Stat_t
	if syscall.Stat(directory, &status) != nil {
		return 0
	}
	major := status.Dev>>8&0xfff | status.Dev>>32&^0xfff
	minor := status.Dev&0xff | status.Dev>>12&^0xff
	text, _ := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", major, minor))
	fields := strings.Fields(string(text))
	if len(fields) < 7 {
		return 0
	}
	sectors, _ := strconv.ParseUint(fields[6], 10, 64)
	return sectors * 512
}
