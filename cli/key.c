// key add, list, revoke: the file of keys that a gateway reads. No scheduler is needed for it.
#include "cli/key_file.h"
#include "cli/say.h"
#include "cli/session.h"
#include "cli/table.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define HASH_SHOWN 12 // digits of a hash in a table; as many or more name a key
#define HASH_TEXT_SIZE (2 * (size_t)KEY_HASH_BYTES + 1)

#define KEYS_OPTION                                                                                          \
    {                                                                                                        \
        "keys", "FILE", NULL, "a file", "the file of keys (default: $SLUICE_KEYS)", conf_text,               \
            offsetof(struct settings, keys)                                                                  \
    }

static void hash_text(const struct key *key, char text[static HASH_TEXT_SIZE])
{
    (void)sodium_bin2hex(text, HASH_TEXT_SIZE, key->hash, KEY_HASH_BYTES);
}

// The queues of a key: "a,b".
static void put_queues(const struct key *key, const char *quote, struct buf *out)
{
    for (size_t i = 0; i < key->queue_count; i++) {
        buf_printf(out, "%s%s%s%s", i > 0 ? "," : "", quote, key->queues[i], quote);
    }
}

// What a file says of it, as the members of a JSON object. Names hold nothing that JSON would escape.
static void put_key(const struct key *key, struct buf *out)
{
    char roles[ROLES_TEXT_SIZE];
    char hash[HASH_TEXT_SIZE];
    char rate[RATE_TEXT_SIZE];
    hash_text(key, hash);
    roles_format(key->roles, roles);
    buf_printf(out, "\"name\":\"%s\",\"roles\":[\"", key->name);
    for (const char *at = roles; *at != '\0'; at++) {
        if (*at == ',') {
            buf_str(out, "\",\"");
        } else {
            buf_char(out, *at);
        }
    }
    buf_printf(out, "\"],\"hash\":\"%s\"", hash);
    if (key->queue_count > 0) {
        buf_str(out, ",\"queues\":[");
        put_queues(key, "\"", out);
        buf_char(out, ']');
    }
    if (key->rate.count > 0) {
        rate_format(key->rate, rate);
        buf_printf(out, ",\"rate\":\"%s\"", rate);
    }
}

static int print_json(struct buf *out)
{
    int code = buf_err(out) ? EXIT_CODE_SOFTWARE : EXIT_CODE_OK;
    if (code == EXIT_CODE_OK) {
        puts(out->data);
    } else {
        say("out of memory");
    }
    buf_fini(out);
    return code;
}

// ---- add ----

static const struct conf_option add_options[] = {
    KEYS_OPTION,
    {"role", "ROLE,...", NULL, "submit, read and operate, with commas between them",
     "what the key may do: submit (ingest, and see what came of it), read (see everything), operate (change "
     "queues, cancel and retry everything)",
     conf_text, offsetof(struct settings, role)},
    {"queues", "NAME,...", NULL, "1 to 16 names of queues", "the only queues it is for (default: all)",
     conf_text, offsetof(struct settings, key_queues)},
    {"rate", "N/DURATION", NULL, "a rate such as 100/s", "requests it may make (default: any number)",
     conf_text, offsetof(struct settings, key_rate)},
};

static int refuse_option(const char *option, const char *value, const char *allowed)
{
    say("--%s: \"%.200s\" is not allowed: %s", option, value, allowed);
    return EXIT_CODE_USAGE;
}

static int describe(const struct settings *settings, const char *name, struct key *key)
{
    if (!queue_name_valid(name)) {
        say("\"%.80s\" cannot be the name of a key: a name is [a-z0-9][a-z0-9._-]{0,63}", name);
        return EXIT_CODE_USAGE;
    }
    memcpy(key->name, name, strlen(name) + 1);
    if (!settings->role) {
        say("--role is missing: submit, read and operate, with commas between them");
        return EXIT_CODE_USAGE;
    }
    if (!roles_parse(settings->role, &key->roles)) {
        return refuse_option("role", settings->role, "submit, read and operate, with commas between them");
    }
    if (settings->key_queues && key_queues_parse(settings->key_queues, key, NULL) != ERR_OK) {
        return refuse_option("queues", settings->key_queues, "1 to 16 names of queues");
    }
    if (settings->key_rate && (!rate_parse(settings->key_rate, &key->rate) || key->rate.count == 0)) {
        return refuse_option("rate", settings->key_rate, "a rate such as 100/s or 1/5s");
    }
    return EXIT_CODE_OK;
}

static int print_added(const struct session *session, const struct key *key, const char *token)
{
    if (!session->settings.json) {
        puts(token);
        say("this is the key, which is kept nowhere else; gateways know it when they have read the file "
            "again "
            "(SIGHUP)");
        return EXIT_CODE_OK;
    }
    struct buf out;
    buf_init(&out);
    buf_printf(&out, "{\"key\":\"%s\",", token);
    put_key(key, &out);
    buf_char(&out, '}');
    return print_json(&out);
}

static int add(struct session *session, char *const *operands, size_t count)
{
    struct key key = {.roles = 0};
    struct key_file file;
    char token[KEY_TOKEN_SIZE];
    (void)count;
    int code = describe(&session->settings, operands[0], &key);
    if (code != EXIT_CODE_OK) {
        key_fini(&key);
        return code;
    }
    code = key_file_open(&file, session->settings.keys, KEY_FILE_MAKE);
    if (code == EXIT_CODE_OK && file.list.count == KEYS_MAX) {
        say("%s has %u keys, and can have no more", file.path, KEYS_MAX);
        code = EXIT_CODE_REFUSED;
    }
    if (code == EXIT_CODE_OK && key_mint(token, key.hash)) {
        say("the system has no random bytes");
        code = EXIT_CODE_SOFTWARE;
    }
    if (code == EXIT_CODE_OK) {
        if (file.text.len > 0 && file.text.data[file.text.len - 1] != '\n') {
            buf_char(&file.text, '\n');
        }
        key_format(&key, &file.text);
        code = key_file_write(&file);
    }
    if (code == EXIT_CODE_OK || code == EXIT_CODE_IOERR) { // then, too, the file has it
        int printed = print_added(session, &key, token);
        code = code == EXIT_CODE_OK ? printed : code;
    }
    key_file_close(&file);
    key_fini(&key);
    return code;
}

const struct command key_add_command = {
    .name = "key add",
    .operands = "NAME",
    .summary = "make a key for HTTP clients, and print it",
    .details =
        "The file gets a line with the key's hash; nobody can make the key of it. Ingestions belong to NAME: "
        "several\n"
        "keys may have one name, as when a new one takes the place of an old one.",
    .least = 1,
    .most = 1,
    OPTIONS(add_options),
    .opens = true,
    .run = add,
};

// ---- list ----

static const struct conf_option file_options[] = {KEYS_OPTION};

static int by_name(const void *a, const void *b)
{
    const struct key *left = a;
    const struct key *right = b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : memcmp(left->hash, right->hash, KEY_HASH_BYTES);
}

static int list_json(const struct key_list *list)
{
    struct buf out;
    buf_init(&out);
    buf_str(&out, "{\"keys\":[");
    for (size_t i = 0; i < list->count; i++) {
        buf_str(&out, i > 0 ? ",{" : "{");
        put_key(&list->keys[i], &out);
        buf_char(&out, '}');
    }
    buf_str(&out, "]}");
    return print_json(&out);
}

static int list_table(const struct key_list *list)
{
    static const char *const names[] = {"NAME", "ROLES", "QUEUES", "RATE", "HASH", NULL};
    struct table table;
    table_init(&table, names);
    for (size_t i = 0; i < list->count; i++) {
        const struct key *key = &list->keys[i];
        char roles[ROLES_TEXT_SIZE];
        char hash[HASH_TEXT_SIZE];
        char rate[RATE_TEXT_SIZE] = "-";
        struct buf queues;
        buf_init(&queues);
        put_queues(key, "", &queues);
        roles_format(key->roles, roles);
        hash_text(key, hash);
        if (key->rate.count > 0) {
            rate_format(key->rate, rate);
        }
        table_text(&table, key->name, TINT_NONE);
        table_text(&table, roles, TINT_NONE);
        table_text(&table, key->queue_count > 0 && queues.data ? queues.data : "all", TINT_NONE);
        table_text(&table, rate, TINT_NONE);
        table_printf(&table, TINT_FAINT, "%.*s", HASH_SHOWN, hash);
        buf_fini(&queues);
    }
    int code = table_print(&table);
    table_fini(&table);
    return code;
}

static int list(struct session *session, char *const *operands, size_t count)
{
    struct key_file file;
    (void)operands, (void)count;
    int code = key_file_open(&file, session->settings.keys, KEY_FILE_READ);
    if (code == EXIT_CODE_OK) {
        if (file.list.count > 0) {
            qsort(file.list.keys, file.list.count, sizeof(file.list.keys[0]), by_name);
        }
        code = session->settings.json ? list_json(&file.list) : list_table(&file.list);
    }
    key_file_close(&file);
    return code;
}

const struct command key_list_command = {
    .name = "key list",
    .operands = "",
    .summary = "show whose keys there are, and what they may do",
    OPTIONS(file_options),
    .opens = true,
    .run = list,
};

// ---- revoke ----

// Whether a name, or the start of a hash, means this key.
static bool is_meant(const char *text, const struct key *key)
{
    char hash[HASH_TEXT_SIZE];
    size_t len = strlen(text);
    hash_text(key, hash);
    return strcmp(text, key->name) == 0 || (len >= HASH_SHOWN && strncmp(hash, text, len) == 0);
}

// All lines but those of the keys that are meant; *revoked is how many those are. false: out of memory.
static bool leave_out(const struct buf *text, const char *meant, struct buf *left, size_t *revoked)
{
    for (size_t at = 0; at < text->len;) {
        const char *line = text->data + at;
        const char *end = memchr(line, '\n', text->len - at);
        size_t len = end ? (size_t)(end - line) : text->len - at;
        char *copy = strndup(line, len);
        struct key key = {.roles = 0};
        bool found = false;
        // The whole file was read before: what fails now lacks memory.
        bool good = copy && key_parse(copy, &key, &found, NULL) == ERR_OK;
        bool gone = good && found && is_meant(meant, &key);
        if (!gone) {
            buf_put(left, line, len + (end ? 1 : 0));
        }
        *revoked += gone;
        key_fini(&key);
        free(copy);
        if (!good) {
            return false;
        }
        at += len + 1;
    }
    return true;
}

static int revoke(struct session *session, char *const *operands, size_t count)
{
    struct key_file file;
    struct buf left;
    size_t revoked = 0;
    (void)count;
    buf_init(&left);
    int code = key_file_open(&file, session->settings.keys, KEY_FILE_CHANGE);
    if (code == EXIT_CODE_OK) {
        bool good = leave_out(&file.text, operands[0], &left, &revoked);
        struct buf all = file.text;
        file.text = left;
        left = all;
        if (!good) {
            say("out of memory");
            code = EXIT_CODE_SOFTWARE;
        } else if (revoked == 0) {
            say("%s has no key with this name, nor with a hash that begins so", file.path);
            code = EXIT_CODE_NOINPUT;
        } else {
            code = key_file_write(&file);
        }
    }
    if (code == EXIT_CODE_OK && session->settings.json) {
        printf("{\"revoked\":%zu}\n", revoked);
    } else if (code == EXIT_CODE_OK) {
        printf("%zu revoked\n", revoked);
        say("gateways let it in until they have read the file again (SIGHUP)");
    }
    buf_fini(&left);
    key_file_close(&file);
    return code;
}

const struct command key_revoke_command = {
    .name = "key revoke",
    .operands = "NAME|HASH",
    .summary = "take keys out of the file: all of a name, or one by the start of its hash",
    .details = "HASH: 12 digits or more, as `sluice key list` shows them.",
    .least = 1,
    .most = 1,
    OPTIONS(file_options),
    .opens = true,
    .run = revoke,
};
