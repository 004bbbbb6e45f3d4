#include "common/proc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

void proc_confine(void)
{
    umask(0027);
    int rc = prctl(PR_SET_NO_NEW_PRIVS, 1ul, 0ul, 0ul, 0ul);
    assert(rc == 0); // Linux has it since 3.5, and it cannot be refused
    (void)rc;
}

int proc_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t orders;
    sigemptyset(&orders);
    sigaddset(&orders, SIGTERM);
    sigaddset(&orders, SIGINT);
    sigaddset(&orders, SIGHUP);
    if (sigaction(SIGPIPE, &ignore, NULL) != 0 || pthread_sigmask(SIG_BLOCK, &orders, NULL) != 0) {
        return -1;
    }
    return signalfd(-1, &orders, SFD_CLOEXEC | SFD_NONBLOCK);
}

enum proc_order proc_take_signal(int signals)
{
    struct signalfd_siginfo info;
    ssize_t len = read(signals, &info, sizeof(info));
    if (len <= 0) {
        return PROC_NONE;
    }
    return len == (ssize_t)sizeof(info) && info.ssi_signo == SIGHUP ? PROC_RELOAD : PROC_END;
}

static enum err io_fault(struct fault *fault, const char *path, int error)
{
    return fault_set(fault, ERR_STORAGE_IO, "%s: %s", path, strerror(error));
}

enum err proc_lock(const char *path, int *fd, struct fault *fault)
{
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (file < 0) {
        return io_fault(fault, path, errno);
    }
    int rc;
    do {
        rc = flock(file, LOCK_EX | LOCK_NB);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0) {
        *fd = file;
        return ERR_OK;
    }
    int error = errno;
    close(file);
    if (error == EWOULDBLOCK) {
        return fault_set(fault, ERR_STORAGE_REFUSED, "%s: another process holds this lock", path);
    }
    return io_fault(fault, path, error);
}

// Makes the entries of the directory that holds path durable: a store is of no use after a power loss if the
// directory it is in is gone.
static int sync_parent(const char *path, size_t len)
{
    char parent[PATH_MAX];
    while (len > 0 && path[len - 1] != '/') {
        len--;
    }
    memcpy(parent, path, len);
    memcpy(parent + len, ".", 2);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return 0; // a directory may be written to and not read: then there is no way to sync it
    }
    int error = fsync(fd) == 0 || errno == EINVAL ? 0 : errno; // EINVAL: the file system has no such thing
    close(fd);
    return error;
}

// Makes the one directory; 0 or an errno.
static int make_one(const char *path, unsigned mode)
{
    struct stat st;
    if (mkdir(path, (mode_t)mode) == 0) {
        return sync_parent(path, strlen(path));
    }
    if (errno != EEXIST) {
        return errno;
    }
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
}

enum err proc_make_dir(const char *path, unsigned mode, struct fault *fault)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    if (len >= sizeof(part) - 1) {
        return io_fault(fault, path, ENAMETOOLONG);
    }
    int error = len == 0 ? ENOENT : 0;
    for (size_t i = 1; i <= len && !error; i++) {
        if (i < len && path[i] != '/') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        error = make_one(part, i == len ? mode : 0755);
    }
    return error ? io_fault(fault, path, error) : ERR_OK;
}

unsigned long proc_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

uint64_t proc_resident(void)
{
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    const char *resident = len > 0 ? strchr(text, ' ') : NULL; // behind the size of all of it; in pages
    return resident ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void proc_ready(int ready_fd)
{
    sd_notify(0, "READY=1");
    if (ready_fd == -1) {
        return;
    }
    ssize_t rc;
    do {
        rc = write(ready_fd, "\n", 1);
    } while (rc < 0 && errno == EINTR);
    close(ready_fd);
}

void proc_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}
