// A store's file: the input as it is, and laid over the beginning of a store that was made here (its header
// and its first page). It is opened or refused; what is refused is left as it was, and nothing stays beside
// it.
#include "scheduler/store_sqlite.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bytes {
    uint8_t *data;
    size_t len;
};

struct site {
    char dir[256];
    char file[300];
    struct bytes made; // a new store
    uint8_t *laid;     // room for the same
};

static struct bytes read_all(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    struct bytes all = {malloc((size_t)st.st_size + 1), (size_t)st.st_size};
    REQUIRE(all.data && read(fd, all.data, all.len) == (ssize_t)all.len);
    close(fd);
    return all;
}

// Removes what is in the directory; how many files that was.
static unsigned empty(const char *path)
{
    unsigned count = 0;
    DIR *dir = opendir(path);
    REQUIRE(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        count += entry->d_name[0] != '.' && unlinkat(dirfd(dir), entry->d_name, 0) == 0;
    }
    closedir(dir);
    return count;
}

static struct site *site(void);

static void leave(void)
{
    (void)rmdir(site()->dir);
}

static struct site *site(void)
{
    static struct site here; // made once, for all inputs
    if (here.laid) {
        return &here;
    }
    const char *tmp = getenv("TMPDIR");
    tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : tmp ? tmp : "/tmp";
    REQUIRE(snprintf(here.dir, sizeof(here.dir), "%s/sluice-fuzz-XXXXXX", tmp) < (int)sizeof(here.dir));
    REQUIRE(mkdtemp(here.dir));
    (void)snprintf(here.file, sizeof(here.file), "%s/%s", here.dir, STORE_FILE);
    struct store *store;
    REQUIRE(store_sqlite_open(here.dir, &store, NULL) == ERR_OK);
    store_close(store);
    here.made = read_all(here.file);
    here.laid = malloc(here.made.len);
    REQUIRE(here.laid && empty(here.dir) == 1 && atexit(leave) == 0);
    return &here;
}

static void read_store(struct store *store)
{
    struct meta meta;
    struct buf flags;
    struct queue_row *rows = NULL;
    size_t count = 0;
    buf_init(&flags);
    REQUIRE(store_begin(store) == ERR_OK); // it can be written
    store_rollback(store);
    if (store_load_meta(store, &meta, &flags) == ERR_OK &&
        store_load_queues(store, &rows, &count) == ERR_OK) {
        store_free_queues(rows, count);
    }
    buf_fini(&flags);
    store_close(store);
}

static void try(const struct site *here, const uint8_t *data, size_t len)
{
    struct store *store;
    struct fault fault = {0};
    int fd = open(here->file, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    REQUIRE(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    close(fd);
    enum err err = store_sqlite_open(here->dir, &store, &fault);
    if (err == ERR_OK) {
        read_store(store);
        (void)empty(here->dir);
        return;
    }
    fuzz_refused(err, &fault);
    REQUIRE(err == ERR_STORAGE_REFUSED && !store);
    struct bytes left = read_all(here->file);
    REQUIRE(left.len == len && (len == 0 || memcmp(left.data, data, len) == 0));
    free(left.data);
    REQUIRE(empty(here->dir) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct site *here = site();
    size_t len = size < here->made.len ? size : here->made.len;
    memcpy(here->laid, here->made.data, here->made.len);
    if (len > 0) {
        memcpy(here->laid, data, len);
    }
    try(here, data, size);
    try(here, here->laid, here->made.len);
    return 0;
}
