/* Makes the disk and the clock of a process fail while it runs, as a test asks. Preloaded; written to be compiled by
 * any C compiler on Linux with glibc.
 *
 * CHELSERU_FAULTS_ROOT names the folder whose files fail, CHELSERU_FAULTS_CONTROL a file of eight numbers (i64, native
 * byte order) that the test changes at any time. See faults.rs for their order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { WRITE_ERROR, SYNC_ERROR, CREATE_ERROR, STUCK, WALL_AHEAD, STEADY_AHEAD, HITS, STALLED, NUMBERS };

static volatile int64_t *control;
static const char *root;

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("CHELSERU_FAULTS_CONTROL");
  root = getenv("CHELSERU_FAULTS_ROOT");
  if (!file || !root) return;
  int fd = open(file, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *mapped = mmap(NULL, NUMBERS * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped != MAP_FAILED) control = mapped;
}

static int64_t number(int which) { return control ? control[which] : 0; }

static int below_root(int fd) {
  char link[64], path[PATH_MAX];
  if (!control) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = readlink(link, path, sizeof path - 1);
  if (len < 0) return 0;
  path[len] = 0;
  return strncmp(path, root, strlen(root)) == 0;
}

/* Whether a call on a file fails; waits while the disk is stuck. */
static int fails(int which, int fd) {
  if (!number(which) && !number(STUCK)) return 0;
  int saved = errno;
  if (!below_root(fd)) { errno = saved; return 0; }
  if (number(STUCK)) {
    __atomic_fetch_add(&control[STALLED], 1, __ATOMIC_SEQ_CST);
    while (number(STUCK)) usleep(1000);
  }
  errno = saved;
  if (!number(which)) return 0;
  __atomic_fetch_add(&control[HITS], 1, __ATOMIC_SEQ_CST);
  errno = (int)number(which);
  return 1;
}

#define REAL(name, type) \
  static type real; \
  if (!real) real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off64_t);
typedef int (*sync_fn)(int);
typedef int (*openat_fn)(int, const char *, int, ...);
typedef int (*clock_fn)(clockid_t, struct timespec *);

ssize_t write(int fd, const void *data, size_t len) {
  REAL("write", write_fn);
  return fails(WRITE_ERROR, fd) ? -1 : real(fd, data, len);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
  REAL("pwrite64", pwrite_fn);
  return fails(WRITE_ERROR, fd) ? -1 : real(fd, data, len, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
  REAL("pwrite64", pwrite_fn);
  return fails(WRITE_ERROR, fd) ? -1 : real(fd, data, len, offset);
}

int fsync(int fd) {
  REAL("fsync", sync_fn);
  return fails(SYNC_ERROR, fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
  REAL("fdatasync", sync_fn);
  return fails(SYNC_ERROR, fd) ? -1 : real(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags) {
  typedef int (*range_fn)(int, off64_t, off64_t, unsigned);
  REAL("sync_file_range", range_fn);
  return fails(SYNC_ERROR, fd) ? -1 : real(fd, offset, len, flags);
}

static int open_checked(int dir, const char *name, int flags, mode_t mode) {
  REAL("openat64", openat_fn);
  if ((flags & O_CREAT) && number(CREATE_ERROR) && strncmp(name, root, strlen(root)) == 0) {
    __atomic_fetch_add(&control[HITS], 1, __ATOMIC_SEQ_CST);
    errno = (int)number(CREATE_ERROR);
    return -1;
  }
  return real(dir, name, flags, mode);
}

#define MODE(flags, mode) \
  mode_t mode = 0; \
  if ((flags) & O_CREAT) { va_list args; va_start(args, flags); mode = va_arg(args, mode_t); va_end(args); }

int open(const char *name, int flags, ...) { MODE(flags, mode) return open_checked(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, mode) return open_checked(AT_FDCWD, name, flags, mode); }
int openat(int dir, const char *name, int flags, ...) { MODE(flags, mode) return open_checked(dir, name, flags, mode); }
int openat64(int dir, const char *name, int flags, ...) { MODE(flags, mode) return open_checked(dir, name, flags, mode); }

int clock_gettime(clockid_t clock, struct timespec *now) {
  REAL("clock_gettime", clock_fn);
  int result = real(clock, now);
  if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += number(WALL_AHEAD);
  if (result == 0 && clock == CLOCK_MONOTONIC) now->tv_sec += number(STEADY_AHEAD);
  return result;
}
