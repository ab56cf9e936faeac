#define _GNU_SOURCE
#include "CWALDoctor.h"

#include <errno.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
enum { ENDING_SIGNALS = sizeof ending_signals / sizeof *ending_signals };

static char path_to_remove[PATH_MAX];
static struct sigaction former[ENDING_SIGNALS], former_size_limit;
static bool installed;

// unlink, signal and raise are all that happens here: each is async-signal-safe.
static void remove_and_end(int number) {
    unlink(path_to_remove);
    // The signal is blocked in here; it takes effect when this returns.
    signal(number, SIG_DFL);
    raise(number);
}

int cwal_remove_on_signal(const char *path) {
    if (installed) {
        for (int i = 0; i < ENDING_SIGNALS; i++) sigaction(ending_signals[i], &former[i], NULL);
        sigaction(SIGXFSZ, &former_size_limit, NULL);
        installed = false;
    }
    if (!path) return 0;
    if (strlen(path) >= sizeof path_to_remove) return -ENAMETOOLONG;
    strcpy(path_to_remove, path);
    struct sigaction ending = {.sa_handler = remove_and_end}, ignoring = {.sa_handler = SIG_IGN};
    sigemptyset(&ending.sa_mask);
    sigemptyset(&ignoring.sa_mask);
    for (int i = 0; i < ENDING_SIGNALS; i++) {
        sigaction(ending_signals[i], NULL, &former[i]);
        if (former[i].sa_handler != SIG_IGN) sigaction(ending_signals[i], &ending, NULL);
    }
    sigaction(SIGXFSZ, &ignoring, &former_size_limit);
    installed = true;
    return 0;
}

int cwal_has_no_copy_on_write(int fd) {
    // The kernel writes an int, whatever the number's type says; a long keeps those that do not safe.
    unsigned long flags = 0;
    int attributes = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0) return -errno;
    memcpy(&attributes, &flags, sizeof attributes);
    return (attributes & FS_NOCOW_FL) != 0;
}
