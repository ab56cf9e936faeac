// RocksDB as a durable log: every append is one WriteBatch with sync, so that it returns when RocksDB's own
// write-ahead log is on the device. RocksDB merges the batches of waiting threads into one write and one sync.
//
// Why these settings are the fair ones:
// - The memtables are large (512 MiB, four of them) and compaction is off: what is measured is the log, not the tree.
// - No compression: it would only slow the flushes of memtables; the log is not compressed by default.
// - enable_pipelined_write is on: one group enters the memtable while the next one is in the log. It was as fast or up
//   to 6 % faster in every run.
// - One column family and one log: tenants are in the key, so tenants share a sync as they do with us.
// - A reader opens the database as after a crash: it replays the log into memtables, then walks all keys.
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/version.h>
#include <rocksdb/write_batch.h>

#include "driver.hpp"

namespace {

void check(const rocksdb::Status& status) {
    if (!status.ok()) throw std::runtime_error(status.ToString());
}

rocksdb::Options settings() {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = 512 << 20;
    options.max_write_buffer_number = 4;
    options.disable_auto_compactions = true;
    options.level0_slowdown_writes_trigger = 1 << 20;
    options.level0_stop_writes_trigger = 1 << 20;
    options.compression = rocksdb::kNoCompression;
    options.enable_pipelined_write = true;
    return options;
}

void appendBigEndian(std::string& text, uint64_t value) {
    for (int shift = 56; shift >= 0; shift -= 8) text.push_back(static_cast<char>(value >> shift));
}

struct RocksWriter : benchmark::Writer {
    rocksdb::DB& database;
    std::atomic<uint64_t>& sequence;
    rocksdb::WriteBatch batch;
    std::string key;

    RocksWriter(rocksdb::DB& database, std::atomic<uint64_t>& sequence) : database(database), sequence(sequence) {}

    void append(uint64_t tenant, const benchmark::Records& records) override {
        batch.Clear();
        uint64_t number = sequence.fetch_add(records.size());
        for (auto record : records) {
            key.clear();
            appendBigEndian(key, tenant);
            appendBigEndian(key, number++);
            check(batch.Put(key, rocksdb::Slice(record.data(), record.size())));
        }
        rocksdb::WriteOptions options;
        options.sync = true;
        check(database.Write(options, &batch));
    }
};

benchmark::Scanned scan(const std::string& directory) {
    rocksdb::DB* opened = nullptr;
    rocksdb::Options options = settings();
    options.create_if_missing = false;
    check(rocksdb::DB::OpenForReadOnly(options, directory, &opened));
    std::unique_ptr<rocksdb::DB> database(opened);
    rocksdb::ReadOptions reading;
    reading.fill_cache = false;
    reading.readahead_size = 2 << 20;
    std::unique_ptr<rocksdb::Iterator> iterator(database->NewIterator(reading));
    benchmark::Scanned result;
    for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) {
        result.records += 1;
        result.payloadBytes += iterator->value().size();
    }
    check(iterator->status());
    return result;
}

}  // namespace

int main(int count, char** values) {
    return benchmark::run(count, values, [](const benchmark::Arguments& arguments) {
        std::string version = std::to_string(ROCKSDB_MAJOR) + "." + std::to_string(ROCKSDB_MINOR) + "." +
                              std::to_string(ROCKSDB_PATCH);
        std::shared_ptr<rocksdb::DB> database;
        if (arguments.operation == "append") {
            rocksdb::DB* opened = nullptr;
            check(rocksdb::DB::Open(settings(), arguments.directory, &opened));
            database.reset(opened);
        }
        auto sequence = std::make_shared<std::atomic<uint64_t>>(0);
        return benchmark::Engine{
            "rocksdb", version,
            [=](uint64_t) { return std::make_unique<RocksWriter>(*database, *sequence); },
            [directory = arguments.directory] { return scan(directory); }};
    });
}
