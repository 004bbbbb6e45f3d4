// Keys: what a line of their file says, what is refused, and whose a token is.
#include "proto/key.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HASH "4bcfacac2c376c7c07c29a4cdbfcf6bd3f048563a37894869a3a6c2358719727"
#define OTHER "9b22e80adb3bf55f39495b11eb03e24b6000c23a4a050696e224a29879836cd1"
#define NAME_64 "a123456789012345678901234567890123456789012345678901234567890123"
#define SIXTEEN "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p"

// ---- lines ----

Test(key, a_line_says_all_of_it)
{
    struct key key;
    bool found;
    struct fault fault;
    cr_assert_eq(key_parse("shop submit,read " HASH " queues=default,mail rate=100/s", &key, &found, &fault),
                 ERR_OK, "%s", fault.detail);
    cr_assert(found);
    cr_assert_str_eq(key.name, "shop");
    cr_assert_eq(key.roles, ROLE_SUBMIT | ROLE_READ);
    cr_assert_eq(key.hash[0], 0x4b);
    cr_assert_eq(key.hash[31], 0x27);
    cr_assert_eq(key.queue_count, 2);
    cr_assert(key_has_queue(&key, "default") && key_has_queue(&key, "mail"));
    cr_assert_not(key_has_queue(&key, "mai") || key_has_queue(&key, "orders"));
    cr_assert_eq(key.rate.count, 100);
    key_fini(&key);
    cr_assert_eq(key_parse("\t admin   operate\t" HASH " \r", &key, &found, &fault), ERR_OK);
    cr_assert(found && key.roles == ROLE_OPERATE && key.queue_count == 0 && key.rate.count == 0);
    cr_assert(key_has_queue(&key, "any"));
    key_fini(&key);
}

Test(key, a_line_may_say_nothing)
{
    static const char *const lines[] = {"", " ", "\r", "\t \r", "# shop submit", "  # shop"};
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct key key;
        bool found = true;
        cr_assert_eq(key_parse(lines[i], &key, &found, NULL), ERR_OK, "%s", lines[i]);
        cr_assert_not(found, "%s", lines[i]);
    }
}

Test(key, is_written_as_it_was_read)
{
    static const char *const lines[] = {
        "shop submit " HASH "\n",
        "shop submit,read,operate " HASH " queues=" SIXTEEN " rate=1/5s\n",
        NAME_64 " read " HASH " rate=5000/m\n",
    };
    for (size_t i = 0; i < COUNT(lines); i++) {
        char line[512];
        struct key key;
        struct buf text;
        bool found;
        (void)snprintf(line, sizeof(line), "%.*s", (int)strlen(lines[i]) - 1, lines[i]);
        cr_assert_eq(key_parse(line, &key, &found, NULL), ERR_OK);
        buf_init(&text);
        key_format(&key, &text);
        cr_assert_str_eq(text.data, lines[i]);
        buf_fini(&text);
        key_fini(&key);
    }
}

// The longest that can be written can be read.
Test(key, the_longest_line)
{
    struct key key = {.roles = ROLE_SUBMIT | ROLE_READ | ROLE_OPERATE, .queue_count = SCOPE_QUEUES_MAX};
    struct key again;
    struct buf text;
    bool found;
    memcpy(key.name, NAME_64, sizeof(NAME_64));
    key.queues = calloc(SCOPE_QUEUES_MAX, sizeof(key.queues[0]));
    for (size_t i = 0; i < SCOPE_QUEUES_MAX; i++) {
        memcpy(key.queues[i], NAME_64, sizeof(NAME_64));
    }
    cr_assert(rate_parse("999999999/365d", &key.rate));
    buf_init(&text);
    key_format(&key, &text);
    buf_cut(&text, text.len - 1);
    text.data[text.len] = '\0';
    cr_assert_eq(key_parse(text.data, &again, &found, NULL), ERR_OK);
    cr_assert_eq(again.queue_count, SCOPE_QUEUES_MAX);
    buf_fini(&text);
    key_fini(&key);
    key_fini(&again);
}

static const struct {
    const char *line;
    const char *said;
} refused[] = {
    {"shop", "a name, roles and a hash"},
    {"shop submit", "a name, roles and a hash"},
    {"Shop submit " HASH, "the name of a key"},
    {NAME_64 "4 submit " HASH, "the name of a key"},
    {"../x submit " HASH, "the name of a key"},
    {"shop admin " HASH, "the roles"},
    {"shop submit,submit " HASH, "the roles"},
    {"shop submit, " HASH, "the roles"},
    {"shop ,submit " HASH, "the roles"},
    {"shop SUBMIT " HASH, "the roles"},
    {"shop submit 4bcf", "the hash"},
    {"shop submit " HASH "0", "the hash"},
    {"shop submit 4BCFACAC2C376C7C07C29A4CDBFCF6BD3F048563A37894869A3A6C2358719727", "the hash"},
    {"shop submit g" HASH, "the hash"},
    {"shop submit " HASH " queues=", "queues="},
    {"shop submit " HASH " queues=a,", "queues="},
    {"shop submit " HASH " queues=A", "queues="},
    {"shop submit " HASH " queues=" SIXTEEN ",q", "queues="},
    {"shop submit " HASH " queues=a queues=b", "each once"},
    {"shop submit " HASH " rate=5", "rate="},
    {"shop submit " HASH " rate=unlimited", "rate="},
    {"shop submit " HASH " rate=0/s", "rate="},
    {"shop submit " HASH " rate=1/s rate=2/s", "each once"},
    {"shop submit " HASH " quota=3", "\"quota=3\" is not known"},
};

Test(key, what_is_refused_and_how)
{
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct key key;
        bool found;
        struct fault fault;
        cr_assert_eq(key_parse(refused[i].line, &key, &found, &fault), ERR_INVALID_FIELD, "%s",
                     refused[i].line);
        cr_assert_not_null(strstr(fault.detail, refused[i].said), "%s: %s", refused[i].line, fault.detail);
        cr_assert_null(key.queues);
    }
    char *line = malloc(5000);
    struct key key;
    bool found;
    memset(line, 'a', 4999);
    line[4999] = '\0';
    cr_assert_eq(key_parse(line, &key, &found, NULL), ERR_INVALID_FIELD);
    free(line);
}

// ---- lists ----

static struct key_list parsed(const char *text)
{
    struct key_list list;
    struct fault fault;
    cr_assert_eq(key_list_parse(text, strlen(text), &list, &fault), ERR_OK, "%s", fault.detail);
    return list;
}

static void expect_refused(const char *text, size_t len, const char *said)
{
    struct key_list list;
    struct fault fault;
    cr_assert_eq(key_list_parse(text, len, &list, &fault), ERR_INVALID_FIELD, "%s", text);
    cr_assert_not_null(strstr(fault.detail, said), "%s", fault.detail);
    cr_assert(list.count == 0 && !list.keys);
}

Test(key, a_list_is_read_in_any_form)
{
    struct key_list list = parsed("");
    cr_assert_eq(list.count, 0);
    cr_assert_null(key_list_find(&list, "x", 1));
    key_list_fini(&list);
    list = parsed("# keys\r\n\r\nshop submit " OTHER "\r\nshop submit " HASH); // no newline at the end
    cr_assert_eq(list.count, 2);
    cr_assert_eq(list.keys[0].hash[0], 0x4b);
    cr_assert_eq(list.keys[1].hash[0], 0x9b);
    key_list_fini(&list);
}

Test(key, a_list_is_refused_with_its_line)
{
    static const char nul[] = "a read " HASH "\0\n";
    static const char same_lead[] = "a read " HASH "\nb read 4bcfacac2c376c7c"
                                    "000000000000000000000000000000000000000000000000\n";
    expect_refused("# one\nshop submit " HASH "\nother\n", strlen("# one\nshop submit " HASH "\nother\n"),
                   "line 3: ");
    expect_refused(nul, sizeof(nul) - 1, "line 1: ");
    expect_refused("a read " HASH "\nb read " HASH "\n", strlen("a read " HASH "\nb read " HASH "\n"),
                   "a and b");
    expect_refused(same_lead, sizeof(same_lead) - 1, "same hash");
}

Test(key, a_list_is_bounded)
{
    struct buf text;
    struct key_list list;
    buf_init(&text);
    for (size_t i = 0; i < KEYS_MAX; i++) {
        buf_printf(&text, "k read %016zx%048d\n", i, 0);
    }
    cr_assert_eq(key_list_parse(text.data, text.len, &list, NULL), ERR_OK);
    cr_assert_eq(list.count, KEYS_MAX);
    key_list_fini(&list);
    buf_printf(&text, "k read %016x%048d\n", KEYS_MAX, 0);
    expect_refused(text.data, text.len, "more than 10000 keys");
    buf_fini(&text);
}

// ---- tokens ----

// BLAKE2b-256 of "abc", as b2sum -l 256 gives it.
Test(key, hashes_are_those_of_blake2b)
{
    static const unsigned char wanted[] = {0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72, 0x31, 0x71, 0xef,
                                           0x3f, 0xee, 0x98, 0x57, 0x9b, 0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb,
                                           0x3e, 0x42, 0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19};
    unsigned char hash[KEY_HASH_BYTES];
    key_hash("abc", 3, hash);
    cr_assert_eq(memcmp(hash, wanted, sizeof(wanted)), 0);
}

Test(key, a_token_is_found_by_its_hash)
{
    enum { KEYS = 200 };
    char tokens[KEYS][KEY_TOKEN_SIZE];
    struct buf text;
    buf_init(&text);
    for (size_t i = 0; i < KEYS; i++) {
        struct key key = {.roles = ROLE_READ};
        (void)snprintf(key.name, sizeof(key.name), "key-%zu", i);
        cr_assert_eq(key_mint(tokens[i], key.hash), ERR_OK);
        cr_assert_eq(strlen(tokens[i]), KEY_TOKEN_SIZE - 1);
        cr_assert_eq(strncmp(tokens[i], "sluice_", 7), 0);
        cr_assert_eq(strspn(tokens[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
                     KEY_TOKEN_SIZE - 1);
        key_format(&key, &text);
    }
    struct key_list list = parsed(text.data);
    for (size_t i = 0; i < KEYS; i++) {
        char name[32];
        const struct key *key = key_list_find(&list, tokens[i], KEY_TOKEN_SIZE - 1);
        (void)snprintf(name, sizeof(name), "key-%zu", i);
        cr_assert(key && strcmp(key->name, name) == 0, "%zu", i);
        cr_assert_null(key_list_find(&list, tokens[i], KEY_TOKEN_SIZE - 2));
        tokens[i][20] ^= 1;
        cr_assert_null(key_list_find(&list, tokens[i], KEY_TOKEN_SIZE - 1));
    }
    cr_assert_null(key_list_find(&list, "", 0));
    key_list_fini(&list);
    buf_fini(&text);
}

// ---- files ----

Test(key, a_file_is_named_when_it_is_no_good)
{
    char path[] = "/tmp/sluice-key-XXXXXX";
    struct key_list list;
    struct fault fault;
    cr_assert_eq(key_list_read("/nowhere/keys", &list, &fault), ERR_STORAGE_IO);
    cr_assert_str_eq(fault.detail, "/nowhere/keys: No such file or directory");
    cr_assert_eq(key_list_read("/tmp", &list, &fault), ERR_STORAGE_IO);
    cr_assert_str_eq(fault.detail, "/tmp: not a regular file");
    cr_assert_eq(key_list_read("/dev/null", &list, &fault), ERR_STORAGE_IO);
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, "x\n", 2) == 2);
    cr_assert_eq(key_list_read(path, &list, &fault), ERR_INVALID_FIELD);
    cr_assert(strstr(fault.detail, path) && strstr(fault.detail, "line 1: "), "%s", fault.detail);
    cr_assert_eq(ftruncate(fd, 0), 0);
    cr_assert_eq(key_list_read(path, &list, &fault), ERR_OK);
    cr_assert_eq(list.count, 0);
    cr_assert_eq(ftruncate(fd, (off_t)KEY_FILE_MAX + 1), 0);
    cr_assert_eq(key_list_read(path, &list, &fault), ERR_INVALID_FIELD);
    cr_assert_not_null(strstr(fault.detail, "longer than"), "%s", fault.detail);
    close(fd);
    unlink(path);
}
