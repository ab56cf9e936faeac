// SQLite as a durable log: journal_mode=WAL, synchronous=FULL, one table. A commit returns when SQLite's write-ahead
// log is synced. Each writer is a thread with its own connection, and begins with BEGIN IMMEDIATE under a busy timeout.
//
// Why these settings are the fair ones:
// - synchronous=FULL is the weakest setting in WAL mode with which a commit survives a power cut.
// - The rowid is tenant and sequence number in one integer: the table is ordered by tenant, and with one tenant every
//   insert goes to the end of the tree, which is SQLite's fastest way.
// - Checkpoints come at SQLite's default of 1,000 pages: the log is then overwritten in place, which syncs faster than
//   a log that grows (measured: twice as fast as a checkpoint every 16,384 pages).
// - The writers take turns at a lock before they begin. Without it they sleep and try again, as SQLite's busy handler
//   does: with 64 writers a few of them then write all, the others starve for more than a second, which percentiles of
//   finished appends do not show, and on a busy machine the rate falls to a twentieth.
#include <sqlite3.h>

#include "driver.hpp"

namespace {

class Connection {
public:
    explicit Connection(const std::string& directory) {
        int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
        check(sqlite3_open_v2((directory + "/records.sqlite").c_str(), &handle, flags, nullptr));
        check(sqlite3_busy_timeout(handle, 60'000));
        execute("PRAGMA journal_mode=WAL");
        execute("PRAGMA synchronous=FULL");
        execute("CREATE TABLE IF NOT EXISTS records (place INTEGER PRIMARY KEY, payload BLOB NOT NULL)");
    }
    Connection(const Connection&) = delete;
    ~Connection() { sqlite3_close_v2(handle); }

    void check(int code) {
        if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_ROW) {
            throw std::runtime_error(std::string("SQLite: ") + sqlite3_errmsg(handle));
        }
    }

    void execute(const char* statement) { check(sqlite3_exec(handle, statement, nullptr, nullptr, nullptr)); }

    sqlite3_stmt* prepare(const char* text) {
        sqlite3_stmt* statement = nullptr;
        check(sqlite3_prepare_v3(handle, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr));
        return statement;
    }

private:
    sqlite3* handle = nullptr;
};

struct Shared {
    std::mutex turn;
    uint64_t sequence = 0;
};

struct SQLiteWriter : benchmark::Writer {
    Connection connection;
    Shared& shared;
    sqlite3_stmt* begin = connection.prepare("BEGIN IMMEDIATE");
    sqlite3_stmt* insert = connection.prepare("INSERT INTO records VALUES (?, ?)");
    sqlite3_stmt* commit = connection.prepare("COMMIT");

    SQLiteWriter(const std::string& directory, Shared& shared) : connection(directory), shared(shared) {}

    ~SQLiteWriter() override {
        for (auto statement : {begin, insert, commit}) sqlite3_finalize(statement);
    }

    void append(uint64_t tenant, const benchmark::Records& records) override {
        std::lock_guard guard(shared.turn);
        step(begin);
        for (auto record : records) {
            connection.check(sqlite3_bind_int64(insert, 1, static_cast<int64_t>(tenant << 40 | shared.sequence++)));
            connection.check(sqlite3_bind_blob64(insert, 2, record.data(), record.size(), SQLITE_STATIC));
            step(insert);
        }
        step(commit);
    }

private:
    void step(sqlite3_stmt* statement) {
        connection.check(sqlite3_step(statement));
        connection.check(sqlite3_reset(statement));
    }
};

benchmark::Scanned scan(const std::string& directory) {
    Connection connection(directory);
    sqlite3_stmt* rows = connection.prepare("SELECT payload FROM records ORDER BY place");
    benchmark::Scanned result;
    int code;
    while ((code = sqlite3_step(rows)) == SQLITE_ROW) {
        // The call reads the payload, pages beyond the first included.
        if (sqlite3_column_blob(rows, 0) == nullptr) throw std::runtime_error("a record without a payload");
        result.records += 1;
        result.payloadBytes += static_cast<uint64_t>(sqlite3_column_bytes(rows, 0));
    }
    connection.check(code);
    sqlite3_finalize(rows);
    return result;
}

}  // namespace

int main(int count, char** values) {
    return benchmark::run(count, values, [](const benchmark::Arguments& arguments) {
        auto shared = std::make_shared<Shared>();
        std::string directory = arguments.directory;
        return benchmark::Engine{
            "sqlite", sqlite3_libversion(),
            [=](uint64_t) { return std::make_unique<SQLiteWriter>(directory, *shared); },
            [=] { return scan(directory); }};
    });
}
