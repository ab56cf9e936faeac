// What the peers written in C++ have in common: the command line, the writers' threads, the measured window, the
// histogram and the line of JSON. Every driver of the benchmark measures in this same way, so that only the engine
// differs. driver.go is the same for the peers written in Go.
#pragma once

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace benchmark {

using Clock = std::chrono::steady_clock;
using Records = std::vector<std::string_view>;

struct UsageError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Arguments {
    std::string operation;
    std::string directory;
    std::string corpus;
    double seconds = 3;
    uint64_t writers = 1;
    uint64_t batch = 1;
    uint64_t recordSize = 512;
    uint64_t tenants = 1;

    static Arguments parse(int count, char** values) {
        Arguments arguments;
        if (count < 2) throw UsageError("usage: append|scan --directory DIR [options]");
        arguments.operation = values[1];
        if (arguments.operation != "append" && arguments.operation != "scan") {
            throw UsageError("unknown operation " + arguments.operation);
        }
        for (int index = 2; index < count; ++index) {
            std::string name = values[index];
            if (name == "--records-only") continue;
            if (index + 1 == count) throw UsageError(name + " needs a value");
            std::string value = values[++index];
            if (name == "--directory") arguments.directory = value;
            else if (name == "--corpus") arguments.corpus = value;
            else if (name == "--seconds") arguments.seconds = std::strtod(value.c_str(), nullptr);
            else if (name == "--writers") arguments.writers = number(name, value);
            else if (name == "--batch") arguments.batch = number(name, value);
            else if (name == "--record-size") arguments.recordSize = number(name, value);
            else if (name == "--tenants") arguments.tenants = number(name, value);
            // Our own driver has modes and kinds of I/O; a peer has one of each.
            else if (name != "--mode" && name != "--io") throw UsageError("unknown option " + name);
        }
        if (arguments.directory.empty()) throw UsageError("--directory is missing");
        if (arguments.operation == "append" && arguments.corpus.empty()) throw UsageError("--corpus is missing");
        if (!(arguments.seconds > 0)) throw UsageError("--seconds must be above 0");
        return arguments;
    }

private:
    static uint64_t number(const std::string& name, const std::string& value) {
        char* end = nullptr;
        uint64_t result = std::strtoull(value.c_str(), &end, 10);
        if (*end != 0 || result == 0) throw UsageError(name + " needs a whole number above 0, not " + value);
        return result;
    }
};

// 32 buckets for each power of two: no bucket is wider than 3.2 %.
class Histogram {
public:
    void add(uint64_t nanoseconds) {
        counts[bucket(nanoseconds)] += 1;
        total += 1;
        largest = std::max(largest, nanoseconds);
    }

    void merge(const Histogram& other) {
        for (size_t index = 0; index < counts.size(); ++index) counts[index] += other.counts[index];
        total += other.total;
        largest = std::max(largest, other.largest);
    }

    // Interpolated within the bucket: the upper bound alone would add up to 3 % to a figure that is compared with a
    // limit of 10 %.
    uint64_t percentile(double fraction) const {
        if (total == 0) return 0;
        double rank = fraction * static_cast<double>(total), before = 0;
        for (size_t index = 0; index < counts.size(); ++index) {
            double here = static_cast<double>(counts[index]);
            if (here > 0 && before + here >= rank) {
                double lower = index == 0 ? 0 : static_cast<double>(upperBound(index - 1));
                double upper = static_cast<double>(std::min(upperBound(index), largest));
                return static_cast<uint64_t>(lower + (upper - lower) * (rank - before) / here);
            }
            before += here;
        }
        return largest;
    }

    std::string latencyJSON() const {
        std::ostringstream text;
        text << "{\"p50\":" << percentile(0.5) << ",\"p90\":" << percentile(0.9) << ",\"p99\":" << percentile(0.99)
             << ",\"p999\":" << percentile(0.999) << ",\"max\":" << largest << "}";
        return text.str();
    }

    std::string bucketsJSON() const {
        std::ostringstream text;
        const char* separator = "[";
        for (size_t index = 0; index < counts.size(); ++index) {
            if (counts[index] == 0) continue;
            text << separator << "[" << upperBound(index) << "," << counts[index] << "]";
            separator = ",";
        }
        text << (total == 0 ? "[]" : "]");
        return text.str();
    }

    uint64_t count() const { return total; }

private:
    static size_t bucket(uint64_t value) {
        if (value < 32) return value;
        unsigned exponent = 63 - static_cast<unsigned>(std::countl_zero(value));
        return (exponent - 4) * 32 + ((value >> (exponent - 5)) & 31);
    }

    static uint64_t upperBound(size_t index) {
        if (index < 32) return index;
        unsigned exponent = static_cast<unsigned>(index / 32) + 4;
        return ((32 + index % 32 + 1) << (exponent - 5)) - 1;
    }

    std::array<uint64_t, 60 * 32> counts{};
    uint64_t total = 0;
    uint64_t largest = 0;
};

inline std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
    return std::string(std::istreambuf_iterator<char>(file), {});
}

inline uint64_t processCounter(const std::string& name) {
    std::istringstream text(contents("/proc/self/io"));
    std::string key;
    uint64_t value;
    while (text >> key >> value) {
        if (key == name + ":") return value;
    }
    return 0;
}

// All that reached the block device below the directory, the file system's own journal included. Other programs count
// too: it is right on a machine that does nothing else.
inline uint64_t deviceBytesWritten(const std::string& directory) {
    struct stat status;
    if (stat(directory.c_str(), &status) != 0) return 0;
    std::string number = std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
    std::ifstream file("/sys/dev/block/" + number + "/stat");
    uint64_t field = 0;
    for (int index = 0; index < 7; ++index) {
        if (!(file >> field)) return 0;
    }
    return field * 512;
}

struct Writer {
    virtual ~Writer() = default;
    // Returns when the records are durable.
    virtual void append(uint64_t tenant, const Records& records) = 0;
};

struct Scanned {
    uint64_t records = 0;
    uint64_t payloadBytes = 0;
};

struct Engine {
    const char* name;
    std::string version;
    std::function<std::unique_ptr<Writer>(uint64_t index)> makeWriter;
    std::function<Scanned()> scan;
};

// Slices of the corpus, one behind the other; each writer begins elsewhere, so that writers do not share content.
class Slices {
public:
    Slices(std::string_view corpus, const Arguments& arguments, uint64_t writer)
        : corpus(corpus),
          size(arguments.recordSize),
          position(corpus.size() / arguments.writers * writer / size * size) {}

    std::string_view next() {
        if (position + size > corpus.size()) position = 0;
        std::string_view slice = corpus.substr(position, size);
        position += size;
        return slice;
    }

private:
    std::string_view corpus;
    uint64_t size, position;
};

inline void append(const Arguments& arguments, const Engine& engine) {
    const std::string corpus = contents(arguments.corpus);
    if (corpus.size() < arguments.recordSize) throw std::runtime_error("the corpus is smaller than one record");
    std::vector<std::unique_ptr<Writer>> writers;
    for (uint64_t index = 0; index < arguments.writers; ++index) writers.push_back(engine.makeWriter(index));

    // An append counts if it ends within the window: then the rate is right even if some appends take very long.
    const auto begin = Clock::now() + std::chrono::milliseconds(500);
    const auto end = begin + std::chrono::nanoseconds(static_cast<int64_t>(arguments.seconds * 1e9));
    std::vector<Histogram> histograms(arguments.writers);
    std::atomic<bool> isFailed = false;
    std::exception_ptr failure;
    std::mutex failureLock;
    std::vector<std::thread> threads;
    for (uint64_t index = 0; index < arguments.writers; ++index) {
        threads.emplace_back([&, index] {
            try {
                Slices slices(corpus, arguments, index);
                Records records(arguments.batch);
                for (uint64_t round = 0; !isFailed; ++round) {
                    for (auto& record : records) record = slices.next();
                    auto start = Clock::now();
                    if (start >= end) break;
                    writers[index]->append((index + round * arguments.writers) % arguments.tenants, records);
                    auto finish = Clock::now();
                    if (finish >= begin && finish < end) {
                        histograms[index].add(static_cast<uint64_t>(std::chrono::nanoseconds(finish - start).count()));
                    }
                }
            } catch (...) {
                std::lock_guard guard(failureLock);
                failure = std::current_exception();
                isFailed = true;
            }
        });
    }
    std::this_thread::sleep_until(begin);
    uint64_t written = processCounter("write_bytes"), device = deviceBytesWritten(arguments.directory);
    std::this_thread::sleep_until(end);
    written = processCounter("write_bytes") - written;
    device = deviceBytesWritten(arguments.directory) - device;
    for (auto& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
    writers.clear();

    Histogram all;
    for (const auto& histogram : histograms) all.merge(histogram);
    uint64_t records = all.count() * arguments.batch;
    std::ostringstream line;
    line << "{\"driver\":\"" << engine.name << "\",\"version\":\"" << engine.version
         << "\",\"operation\":\"append\",\"mode\":\"threads\",\"writers\":" << arguments.writers
         << ",\"batch\":" << arguments.batch << ",\"recordSize\":" << arguments.recordSize
         << ",\"tenants\":" << arguments.tenants
         << ",\"seconds\":" << std::chrono::duration<double>(end - begin).count()
         << ",\"appends\":" << all.count() << ",\"records\":" << records
         << ",\"payloadBytes\":" << records * arguments.recordSize << ",\"writtenBytes\":" << written
         << ",\"deviceBytes\":" << device << ",\"latency\":" << all.latencyJSON()
         << ",\"histogram\":" << all.bucketsJSON() << "}";
    std::puts(line.str().c_str());
}

inline void scan(const Engine& engine) {
    uint64_t read = processCounter("read_bytes");
    auto start = Clock::now();
    Scanned scanned = engine.scan();
    double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    read = processCounter("read_bytes") - read;
    std::printf(
        "{\"driver\":\"%s\",\"version\":\"%s\",\"operation\":\"scan\",\"seconds\":%.6f,\"records\":%llu,"
        "\"payloadBytes\":%llu,\"diskBytes\":%llu}\n",
        engine.name, engine.version.c_str(), seconds, static_cast<unsigned long long>(scanned.records),
        static_cast<unsigned long long>(scanned.payloadBytes), static_cast<unsigned long long>(read));
}

inline int run(int count, char** values, const std::function<Engine(const Arguments&)>& open) {
    try {
        Arguments arguments = Arguments::parse(count, values);
        Engine engine = open(arguments);
        if (arguments.operation == "append") append(arguments, engine);
        else scan(engine);
        return 0;
    } catch (const UsageError& error) {
        std::fprintf(stderr, "%s: %s\n", values[0], error.what());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", values[0], error.what());
        return 3;
    }
}

}  // namespace benchmark
