/* Records what a process does to the files below a folder, in one order, so that a test can build what a power cut
 * would have left. Preloaded; written to be compiled by any C compiler on Linux with glibc.
 *
 * CHELSERU_RECORD_ROOT names the folder, CHELSERU_RECORD_TRACE the file for the record. An entry:
 *
 *   op u8, path length u32, second path length u32, offset u64, data length u64, path, second path, data
 *
 * all numbers little endian. Ops: C created, W written, T truncated to offset, S synced, R renamed, U unlinked,
 * M folder made, D folder removed, A written to standard output.
 *
 * Syncs only record: nothing has to reach a real disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static const char *root;

#define REAL(name, type) \
  static type real; \
  if (!real) real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*write_fn)(int, const void *, size_t);

static ssize_t real_write(int fd, const void *data, size_t len) {
  REAL("write", write_fn);
  return real(fd, data, len);
}

static void emit(char op, const char *path, const char *second, uint64_t offset, const void *data, uint64_t len) {
  uint32_t sizes[2] = {path ? strlen(path) : 0, second ? strlen(second) : 0};
  uint64_t numbers[2] = {offset, len};
  size_t total = 1 + sizeof sizes + sizeof numbers + sizes[0] + sizes[1] + len, at = 0;
  char *entry = malloc(total);
  if (!entry) abort();
#define PUT(from, size) do { memcpy(entry + at, (from), (size)); at += (size); } while (0)
  PUT(&op, 1);
  PUT(sizes, sizeof sizes);
  PUT(numbers, sizeof numbers);
  if (sizes[0]) PUT(path, sizes[0]);
  if (sizes[1]) PUT(second, sizes[1]);
  if (len) PUT(data, len);
  for (size_t done = 0; done < total;) {
    ssize_t wrote = real_write(trace, entry + done, total - done);
    if (wrote < 0) abort();
    done += wrote;
  }
  free(entry);
}

static void begin(void) {
  pthread_mutex_lock(&lock);
  if (trace == -1) {
    root = getenv("CHELSERU_RECORD_ROOT");
    const char *file = getenv("CHELSERU_RECORD_TRACE");
    int (*real_open)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    trace = root && file ? real_open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -2;
  }
}

static void end(void) {
  int saved = errno;
  pthread_mutex_unlock(&lock);
  errno = saved;
}

static int below(const char *path) {
  return trace >= 0 && strncmp(path, root, strlen(root)) == 0;
}

/* The path of an open file, or 0 when it is not recorded. */
static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = readlink(link, path, PATH_MAX - 1);
  if (len < 0) return 0;
  path[len] = 0;
  return below(path);
}

/* The absolute form of a path that may be relative to a folder. */
static int path_at(int dir, const char *name, char *path) {
  if (name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else {
    char folder[PATH_MAX];
    if (dir == AT_FDCWD) {
      if (!getcwd(folder, sizeof folder)) return 0;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
      ssize_t len = readlink(link, folder, sizeof folder - 1);
      if (len < 0) return 0;
      folder[len] = 0;
    }
    if ((size_t)snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX) return 0;
  }
  return below(path);
}

static int open_recorded(const char *symbol, int dir, const char *name, int flags, mode_t mode) {
  typedef int (*openat_fn)(int, const char *, int, ...);
  openat_fn real = (openat_fn)dlsym(RTLD_NEXT, symbol);
  char path[PATH_MAX];
  begin();
  int recorded = (flags & (O_CREAT | O_TRUNC)) && path_at(dir, name, path);
  int missing = recorded && faccessat(AT_FDCWD, path, F_OK, 0) != 0;
  int fd = real(dir, name, flags, mode);
  if (fd >= 0 && recorded) {
    if (missing) emit('C', path, NULL, 0, NULL, 0);
    else if (flags & O_TRUNC) emit('T', path, NULL, 0, NULL, 0);
  }
  end();
  return fd;
}

#define MODE(flags, mode) \
  mode_t mode = 0; \
  if ((flags) & O_CREAT) { va_list args; va_start(args, flags); mode = va_arg(args, mode_t); va_end(args); }

int open(const char *name, int flags, ...) { MODE(flags, mode) return open_recorded("openat", AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, mode) return open_recorded("openat64", AT_FDCWD, name, flags, mode); }
int openat(int dir, const char *name, int flags, ...) { MODE(flags, mode) return open_recorded("openat", dir, name, flags, mode); }
int openat64(int dir, const char *name, int flags, ...) { MODE(flags, mode) return open_recorded("openat64", dir, name, flags, mode); }

ssize_t write(int fd, const void *data, size_t len) {
  char path[PATH_MAX];
  begin();
  ssize_t wrote = real_write(fd, data, len);
  if (wrote > 0) {
    if (fd == 1 && trace >= 0) emit('A', NULL, NULL, 0, data, wrote);
    else if (path_of(fd, path)) emit('W', path, NULL, lseek(fd, 0, SEEK_CUR) - wrote, data, wrote);
  }
  end();
  return wrote;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  ssize_t total = 0;
  for (int i = 0; i < count; i++) {
    if (!parts[i].iov_len) continue;
    ssize_t wrote = write(fd, parts[i].iov_base, parts[i].iov_len);
    if (wrote < 0) return total ? total : wrote;
    total += wrote;
    if ((size_t)wrote < parts[i].iov_len) break;
  }
  return total;
}

static ssize_t pwrite_recorded(int fd, const void *data, size_t len, off64_t offset) {
  typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off64_t);
  REAL("pwrite64", pwrite_fn);
  char path[PATH_MAX];
  begin();
  ssize_t wrote = real(fd, data, len, offset);
  if (wrote > 0 && path_of(fd, path)) emit('W', path, NULL, offset, data, wrote);
  end();
  return wrote;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) { return pwrite_recorded(fd, data, len, offset); }
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) { return pwrite_recorded(fd, data, len, offset); }

static int sync_recorded(int fd) {
  char path[PATH_MAX];
  begin();
  if (path_of(fd, path)) emit('S', path, NULL, 0, NULL, 0);
  end();
  return 0;
}

int fsync(int fd) { return sync_recorded(fd); }
int fdatasync(int fd) { return sync_recorded(fd); }
/* Promises nothing about a power cut. */
int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags) {
  (void)fd; (void)offset; (void)len; (void)flags;
  return 0;
}

static int truncate_recorded(int fd, off64_t len) {
  typedef int (*ftruncate_fn)(int, off64_t);
  REAL("ftruncate64", ftruncate_fn);
  char path[PATH_MAX];
  begin();
  int result = real(fd, len);
  if (result == 0 && path_of(fd, path)) emit('T', path, NULL, len, NULL, 0);
  end();
  return result;
}

int ftruncate(int fd, off_t len) { return truncate_recorded(fd, len); }
int ftruncate64(int fd, off64_t len) { return truncate_recorded(fd, len); }

int rename(const char *from, const char *to) {
  typedef int (*rename_fn)(const char *, const char *);
  REAL("rename", rename_fn);
  char path[PATH_MAX], second[PATH_MAX];
  begin();
  int result = real(from, to);
  if (result == 0 && path_at(AT_FDCWD, from, path) && path_at(AT_FDCWD, to, second)) emit('R', path, second, 0, NULL, 0);
  end();
  return result;
}

int unlink(const char *name) {
  typedef int (*unlink_fn)(const char *);
  REAL("unlink", unlink_fn);
  char path[PATH_MAX];
  begin();
  int result = real(name);
  if (result == 0 && path_at(AT_FDCWD, name, path)) emit('U', path, NULL, 0, NULL, 0);
  end();
  return result;
}

int unlinkat(int dir, const char *name, int flags) {
  typedef int (*unlinkat_fn)(int, const char *, int);
  REAL("unlinkat", unlinkat_fn);
  char path[PATH_MAX];
  begin();
  int recorded = path_at(dir, name, path);
  int result = real(dir, name, flags);
  if (result == 0 && recorded) emit(flags & AT_REMOVEDIR ? 'D' : 'U', path, NULL, 0, NULL, 0);
  end();
  return result;
}

int rmdir(const char *name) {
  typedef int (*rmdir_fn)(const char *);
  REAL("rmdir", rmdir_fn);
  char path[PATH_MAX];
  begin();
  int result = real(name);
  if (result == 0 && path_at(AT_FDCWD, name, path)) emit('D', path, NULL, 0, NULL, 0);
  end();
  return result;
}

int mkdir(const char *name, mode_t mode) {
  typedef int (*mkdir_fn)(const char *, mode_t);
  REAL("mkdir", mkdir_fn);
  char path[PATH_MAX];
  begin();
  int result = real(name, mode);
  if (result == 0 && path_at(AT_FDCWD, name, path)) emit('M', path, NULL, 0, NULL, 0);
  end();
  return result;
}

/* Copies go through read and write, where they are seen. */
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
  (void)in; (void)in_at; (void)out; (void)out_at; (void)len; (void)flags;
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
  (void)out; (void)in; (void)offset; (void)count;
  errno = ENOSYS;
  return -1;
}
