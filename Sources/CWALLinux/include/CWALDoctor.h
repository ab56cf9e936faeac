// What `walctl doctor` alone needs: a temporary file that goes even where a signal ends the process, and whether a
// file is overwritten in place.
#ifndef CWAL_DOCTOR_H
#define CWAL_DOCTOR_H

/// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT remove `path` before they end the process as they would have; a
/// signal that is ignored stays so. One path at a time, and from one thread. NULL: the former handlers are back.
/// Also, SIGXFSZ is ignored meanwhile: passing the file size limit is then the error EFBIG.
/// Returns 0, or -ENAMETOOLONG.
int cwal_remove_on_signal(const char *path);

/// 1: the file has the attribute C (chattr +C), no copy on write. 0: it has not. A negated errno where the file
/// system knows no attributes.
int cwal_has_no_copy_on_write(int fd);

#endif
