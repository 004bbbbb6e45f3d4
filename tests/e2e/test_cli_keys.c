// The command line's keys: the file they are in, and that it is never half a file.
#include "cli/exit.h"
#include "proto/key.h"
#include "tests/support/cli.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

TestSuite(cli_keys, .fini = sluice_cleanup);

// ---- Support: no program of the sluice runs; the command line needs none here ----

static char *text_of(const struct sluice *sluice, const char *name)
{
    char *path = sluice_path(sluice, name);
    char *text = file_text(path);
    free(path);
    return text;
}

static void write_text(const struct sluice *sluice, const char *name, const char *text)
{
    char *path = sluice_path(sluice, name);
    FILE *file = fopen(path, "w");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
    free(path);
}

static struct stat stat_of(const struct sluice *sluice, const char *name)
{
    struct stat st;
    char *path = sluice_path(sluice, name);
    cr_assert_eq(lstat(path, &st), 0, "%s", path);
    free(path);
    return st;
}

static void add(const struct sluice *sluice, const char *name)
{
    free(cli_out(sluice, LIST("key", "add", name, "--keys", "keys", "--role", "read")));
}

static size_t lines_of(const char *text)
{
    size_t lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) {
        lines++;
    }
    return lines;
}

Test(cli_keys, added_listed_and_revoked)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *token = cli_out(sluice, LIST("key", "add", "shop", "--keys", "keys", "--role", "submit", "--queues",
                                       "a,b", "--rate", "100/s"));
    cr_assert(strncmp(token, "sluice_", 7) == 0 && strlen(token) == 51 && token[50] == '\n', "%s", token);
    token[50] = '\0';
    add(sluice, "desk");
    char *text = text_of(sluice, "keys");
    cr_assert(strncmp(text, "shop submit ", 12) == 0 && strstr(text, " queues=a,b rate=100/s\ndesk read "),
              "%s", text);
    cr_assert_null(strstr(text, token), "the key itself is kept nowhere");
    cr_assert_eq(stat_of(sluice, "keys").st_mode & 07777, 0640);
    free(text);
    free(token);

    char *list = cli_out(sluice, LIST("key", "list", "--keys", "keys"));
    expect_in(list, LIST("NAME", "ROLES", "QUEUES", "RATE", "HASH", "shop", "a,b", "100/s", "desk", "all"));
    cr_assert_lt(strstr(list, "desk"), strstr(list, "shop"), "by name: %s", list);
    free(list);
    char *said = cli_out(sluice, LIST("key", "revoke", "shop", "--keys", "keys"));
    cr_assert_str_eq(said, "1 revoked\n");
    free(said);
    text = text_of(sluice, "keys");
    cr_assert_eq(strncmp(text, "desk read ", 10), 0, "%s", text);
    free(text);
    cli_refused(sluice, EXIT_CODE_NOINPUT, "no key with this name",
                LIST("key", "revoke", "shop", "--keys", "keys"));
    free(cli_out(sluice, LIST("key", "revoke", "desk", "--keys", "keys")));
    cr_assert_eq(stat_of(sluice, "keys").st_size, 0);
    sluice_end(sluice);
}

Test(cli_keys, as_json)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    cJSON *added = cli_reply(sluice, LIST("key", "add", "shop", "--json", "--keys", "keys", "--role",
                                          "submit,read", "--queues", "a", "--rate", "1/5s"));
    cr_assert_eq(strlen(json_text(added, "key")), 50);
    cr_assert_str_eq(json_text(added, "name"), "shop");
    cJSON *list = cli_reply(sluice, LIST("key", "list", "--json", "--keys", "keys"));
    const cJSON *key = cJSON_GetArrayItem(json_member(list, "keys"), 0);
    cr_assert_str_eq(json_text(key, "hash"), json_text(added, "hash"));
    cr_assert_str_eq(json_text(key, "rate"), "1/5s");
    cr_assert_eq(cJSON_GetArraySize(json_member(key, "roles")), 2);
    cr_assert_str_eq(cJSON_GetArrayItem(json_member(key, "queues"), 0)->valuestring, "a");
    cr_assert_null(cJSON_GetObjectItem(key, "key"));
    cJSON *revoked = cli_reply(sluice, LIST("key", "revoke", "shop", "--json", "--keys", "keys"));
    cr_assert_eq(json_number(revoked, "revoked"), 1);
    cJSON_Delete(added);
    cJSON_Delete(list);
    cJSON_Delete(revoked);
    sluice_end(sluice);
}

// One of two that have a name, by the start of its hash.
Test(cli_keys, a_new_key_takes_the_place_of_an_old_one)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    add(sluice, "shop");
    char *before = text_of(sluice, "keys");
    add(sluice, "shop");
    char *both = text_of(sluice, "keys");
    char hash[13];
    (void)snprintf(hash, sizeof(hash), "%.12s", before + strlen("shop read "));
    hash[11] = '\0'; // too short to mean a key
    cli_refused(sluice, EXIT_CODE_NOINPUT, "no key with this name",
                LIST("key", "revoke", hash, "--keys", "keys"));
    hash[11] = before[strlen("shop read ") + 11];
    free(cli_out(sluice, LIST("key", "revoke", hash, "--keys", "keys")));
    char *left = text_of(sluice, "keys");
    cr_assert_str_eq(left, both + strlen(before));
    add(sluice, "shop");
    char *said = cli_out(sluice, LIST("key", "revoke", "shop", "--keys", "keys"));
    cr_assert_str_eq(said, "2 revoked\n");
    free(said);
    free(before);
    free(both);
    free(left);
    sluice_end(sluice);
}

Test(cli_keys, what_else_is_in_the_file_stays)
{
    static const char given[] =
        "# ours\r\n\nshop read 4bcfacac2c376c7c07c29a4cdbfcf6bd3f048563a37894869a3a6c2358719727\r\n# end";
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *path = sluice_path(sluice, "keys");
    char *alias = sluice_path(sluice, "alias");
    write_text(sluice, "keys", given);
    cr_assert(chmod(path, 0604) == 0 && symlink("keys", alias) == 0);
    free(cli_out(sluice, LIST("key", "add", "desk", "--keys", "alias", "--role", "read")));
    char *text = text_of(sluice, "keys");
    cr_assert_eq(strncmp(text, given, strlen(given)), 0, "%s", text);
    cr_assert_eq(strncmp(text + strlen(given), "\ndesk read ", 11), 0, "%s", text);
    cr_assert_eq(stat_of(sluice, "keys").st_mode & 07777, 0604);
    cr_assert(S_ISLNK(stat_of(sluice, "alias").st_mode), "what it leads to is changed");
    free(text);
    free(cli_out(sluice, LIST("key", "revoke", "desk", "--keys", "keys")));
    free(cli_out(sluice, LIST("key", "revoke", "shop", "--keys", "keys")));
    text = text_of(sluice, "keys");
    cr_assert_str_eq(text, "# ours\r\n\n# end\n");
    free(text);
    free(path);
    free(alias);
    sluice_end(sluice);
}

// A part that a killed one left is in nobody's way.
Test(cli_keys, many_at_once_all_get_in)
{
    enum { MANY = 12 };
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct process processes[MANY];
    struct program_path program = program_path("sluice");
    char *part = sluice_path(sluice, "keys.part");
    char *keys = sluice_path(sluice, "keys");
    write_text(sluice, "keys.part", "half a li");
    for (size_t i = 0; i < MANY; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "key-%zu", i);
        processes[i] = process_start(
            &(struct process_plan){.program = program.text,
                                   .arguments = LIST("key", "add", name, "--keys", keys, "--role", "read"),
                                   .log = "/dev/null"});
    }
    for (size_t i = 0; i < MANY; i++) {
        cr_assert_eq(process_wait(&processes[i]), 0);
    }
    char *text = file_text(keys);
    cr_assert_eq(lines_of(text), MANY, "%s", text);
    cr_assert_neq(access(part, F_OK), 0);
    free(cli_out(sluice, LIST("key", "list", "--keys", "keys")));
    free(text);
    free(part);
    free(keys);
    sluice_end(sluice);
}

Test(cli_keys, what_is_refused)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    const struct {
        int code;
        const char *said;
        const char *const *arguments;
    } rows[] = {
        {EXIT_CODE_USAGE, "which file of keys?", LIST("key", "list")},
        {EXIT_CODE_NOINPUT, "No such file", LIST("key", "list", "--keys", "none")},
        {EXIT_CODE_NOINPUT, "No such file", LIST("key", "revoke", "shop", "--keys", "none")},
        {EXIT_CODE_CANTCREAT, "No such file",
         LIST("key", "add", "a", "--role", "read", "--keys", "no/where")},
        {EXIT_CODE_USAGE, "an operand is missing", LIST("key", "add", "--role", "read", "--keys", "keys")},
        {EXIT_CODE_USAGE, "--role is missing", LIST("key", "add", "a", "--keys", "keys")},
        {EXIT_CODE_USAGE, "\"admin\" is not allowed",
         LIST("key", "add", "a", "--role", "admin", "--keys", "keys")},
        {EXIT_CODE_USAGE, "cannot be the name",
         LIST("key", "add", "A b", "--role", "read", "--keys", "keys")},
        {EXIT_CODE_USAGE, "\"A\" is not allowed",
         LIST("key", "add", "a", "--role", "read", "--keys", "keys", "--queues", "A")},
        {EXIT_CODE_USAGE, "\"unlimited\" is not allowed",
         LIST("key", "add", "a", "--role", "read", "--keys", "keys", "--rate", "unlimited")},
        {EXIT_CODE_USAGE, "\"key remove\" is not a command", LIST("key", "remove")},
        {EXIT_CODE_DATAERR, "bad: line 2: ", LIST("key", "list", "--keys", "bad")},
        {EXIT_CODE_DATAERR, "bad: line 2: ", LIST("key", "add", "a", "--role", "read", "--keys", "bad")},
        {EXIT_CODE_DATAERR, "bad: line 2: ", LIST("key", "revoke", "a", "--keys", "bad")},
    };
    write_text(sluice, "bad", "# bad\nshop\n");
    for (size_t i = 0; i < COUNT(rows); i++) {
        cli_refused(sluice, rows[i].code, rows[i].said, rows[i].arguments);
    }
    char *bad = text_of(sluice, "bad");
    char *keys = sluice_path(sluice, "keys");
    cr_assert_str_eq(bad, "# bad\nshop\n");
    cr_assert_neq(access(keys, F_OK), 0, "nothing was made");
    free(bad);
    free(keys);
    sluice_end(sluice);
}

// Neither a device, nor a link that leads nowhere, is replaced; and no file becomes one that cannot be read.
Test(cli_keys, what_is_no_file_is_left_alone)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    char *alias = sluice_path(sluice, "alias");
    char *keys = sluice_path(sluice, "keys");
    cr_assert_eq(symlink("nowhere", alias), 0);
    cli_refused(sluice, EXIT_CODE_NOINPUT,
                "alias: ", LIST("key", "add", "a", "--role", "read", "--keys", "alias"));
    cr_assert(S_ISLNK(stat_of(sluice, "alias").st_mode));
    cr_assert_eq(mkfifo(keys, 0600), 0);
    cli_refused(sluice, EXIT_CODE_NOINPUT, "not a regular file",
                LIST("key", "add", "a", "--role", "read", "--keys", "keys"));
    cr_assert(S_ISFIFO(stat_of(sluice, "keys").st_mode));
    cr_assert_eq(unlink(keys), 0);
    FILE *file = fopen(keys, "w");
    for (unsigned i = 0; i < KEY_FILE_MAX / 8; i++) {
        cr_assert_geq(fputs("# 56789\n", file), 0);
    }
    cr_assert_eq(fclose(file), 0);
    cli_refused(sluice, EXIT_CODE_REFUSED, "longer than",
                LIST("key", "add", "a", "--role", "read", "--keys", "keys"));
    cr_assert_eq(stat_of(sluice, "keys").st_size, KEY_FILE_MAX);
    free(alias);
    free(keys);
    sluice_end(sluice);
}

// A write that falls short.
Test(cli_keys, a_full_disk_leaves_the_file_as_it_was)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    struct program_path program = program_path("sluice");
    add(sluice, "shop");
    char *before = text_of(sluice, "keys");
    char *log = sluice_path(sluice, "log");
    char *command;
    cr_assert(
        asprintf(&command,
                 "(trap '' XFSZ; ulimit -f 0; exec %s key add desk --role read --keys keys) 2>&1 | cat >&2",
                 program.text) > 0);
    (void)process_run(&(struct process_plan){
        .program = "/bin/bash", .arguments = LIST("-c", command), .directory = sluice->dir, .log = log});
    char *said = file_text(log);
    char *after = text_of(sluice, "keys");
    char *part = sluice_path(sluice, "keys.part");
    cr_assert_not_null(strstr(said, "File too large"), "%s", said);
    cr_assert_str_eq(after, before);
    cr_assert_neq(access(part, F_OK), 0);
    free(before), free(after), free(said), free(log), free(command), free(part);
    sluice_end(sluice);
}

Test(cli_keys, what_cannot_be_written_stays_as_it_was)
{
    struct sluice *sluice = sluice_new(NULL, NULL);
    add(sluice, "shop");
    char *before = text_of(sluice, "keys");
    char *part = sluice_path(sluice, "keys.part");
    cr_assert_eq(mkdir(part, 0700), 0); // nothing can be written there
    cli_refused(sluice, EXIT_CODE_CANTCREAT,
                "keys.part: ", LIST("key", "add", "a", "--role", "read", "--keys", "keys"));
    cr_assert_eq(rmdir(part), 0);
    char *after = text_of(sluice, "keys");
    cr_assert_str_eq(after, before);
    // The variable says where the file is, too.
    struct cli_result result = cli_run(sluice, &(struct cli_plan){.arguments = LIST("key", "list"),
                                                                  .environment = LIST("SLUICE_KEYS=keys")});
    cr_assert_eq(result.code, EXIT_CODE_OK, "%s", result.err);
    expect_in(result.out, LIST("shop"));
    cli_result_fini(&result);
    free(before);
    free(after);
    free(part);
    sluice_end(sluice);
}
