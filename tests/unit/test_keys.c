// Who may do what: keys, roles, queues and rates as the gateway judges a request by them.
#include "gateway/keys.h"
#include "tests/support/wait.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct fixture {
    char path[32];
    char token[4][KEY_TOKEN_SIZE]; // by index of the key
    struct buf text;
    size_t count;
    struct keys *keys;
};

static void add_key(struct fixture *f, const char *name, const char *roles, const char *rest)
{
    unsigned char hash[KEY_HASH_BYTES];
    cr_assert_eq(key_mint(f->token[f->count++], hash), ERR_OK);
    buf_printf(&f->text, "%s %s ", name, roles);
    for (size_t i = 0; i < KEY_HASH_BYTES; i++) {
        buf_printf(&f->text, "%02x", hash[i]);
    }
    buf_printf(&f->text, " %s\n", rest);
}

static void write_keys(const struct fixture *f, const char *data, size_t len)
{
    FILE *file = fopen(f->path, "w");
    cr_assert(file && (len == 0 || fwrite(data, 1, len, file) == len) && fclose(file) == 0);
}

static void open_keys(struct fixture *f)
{
    struct fault fault;
    write_keys(f, f->text.data, f->text.len);
    cr_assert_eq(keys_open(f->path, &f->keys, &fault), ERR_OK, "%s", fault.detail);
}

static struct fixture begin(void)
{
    struct fixture f = {.path = "/tmp/sluice-keys-XXXXXX"};
    int fd = mkstemp(f.path);
    cr_assert_geq(fd, 0);
    close(fd);
    buf_init(&f.text);
    return f;
}

static void end(struct fixture *f)
{
    keys_close(f->keys);
    buf_fini(&f->text);
    unlink(f->path);
}

struct verdict {
    enum err err;
    struct pass pass;
    struct refusal refusal;
    struct fault fault;
};

static struct verdict judge_header(const struct fixture *f, const char *header, enum endpoint endpoint)
{
    struct verdict v = {.fault = {.detail = ""}};
    v.err = keys_admit(f->keys, header, endpoint, mono_now(), &v.pass, &v.refusal, &v.fault);
    return v;
}

static struct verdict judge(const struct fixture *f, size_t key, enum endpoint endpoint)
{
    char header[128];
    (void)snprintf(header, sizeof(header), "Bearer %s", f->token[key]);
    return judge_header(f, header, endpoint);
}

// ---- whether there is a key at all ----

Test(keys, without_keys_everybody_may_do_everything)
{
    struct fixture f = {.keys = NULL};
    for (int e = 0; e < ENDPOINTS; e++) {
        struct verdict v = judge_header(&f, NULL, (enum endpoint)e);
        struct request request = {.op = OP_STATUS};
        cr_assert(v.err == ERR_OK && !v.pass.key);
        cr_assert_eq(pass_check(&v.pass, &request, NULL), ERR_OK);
        cr_assert_eq(pass_limit(&v.pass, &request), ERR_OK);
        cr_assert_null(request.scope);
        pass_end(&v.pass);
    }
}

Test(keys, a_key_must_come_as_rfc_6750_has_it)
{
    static const struct {
        const char *format;
        enum err err;
        const char *challenge;
    } rows[] = {
        {"Bearer %s", ERR_OK, NULL},
        {"bearer   %s", ERR_OK, NULL},
        {"BEARER %s ", ERR_OK, NULL},
        {"Bearer%s", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\""},
        {"Basic %s", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\""},
        {"%s", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\""},
        {"Bearer ", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\""},
        {"", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\""},
        {"Bearer %s, Bearer x", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\""}, // given twice
        {"Bearer x%s", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\", error=\"invalid_token\""},
        {"Bearer %s0", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\", error=\"invalid_token\""},
        {"Bearer sluice_", ERR_UNAUTHORIZED, "Bearer realm=\"sluice\", error=\"invalid_token\""},
    };
    struct fixture f = begin();
    add_key(&f, "shop", "submit", "");
    open_keys(&f);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf header;
        buf_init(&header);
        buf_str(&header, "");
        for (const char *at = rows[i].format; *at != '\0'; at++) {
            if (*at == '%') {
                buf_str(&header, f.token[0]);
                at++;
            } else {
                buf_char(&header, *at);
            }
        }
        struct verdict v = judge_header(&f, header.data ? header.data : "", ENDPOINT_INGEST);
        cr_assert_eq(v.err, rows[i].err, "%s: %s", rows[i].format, v.fault.detail);
        cr_assert_eq(v.pass.key != NULL, v.err == ERR_OK);
        if (rows[i].challenge) {
            cr_assert_str_eq(v.refusal.challenge, rows[i].challenge, "%s", rows[i].format);
            cr_assert_null(strstr(v.fault.detail, f.token[0]), "a key is never told");
        }
        pass_end(&v.pass);
        buf_fini(&header);
    }
    struct verdict none = judge_header(&f, NULL, ENDPOINT_STATUS);
    cr_assert_eq(none.err, ERR_UNAUTHORIZED);
    cr_assert_str_eq(none.refusal.challenge, "Bearer realm=\"sluice\"");
    cr_assert_not_null(strstr(none.fault.detail, "Authorization: Bearer"));
    end(&f);
}

Test(keys, health_needs_none)
{
    struct fixture f = begin();
    open_keys(&f); // nobody at all
    cr_assert_eq(judge_header(&f, NULL, ENDPOINT_HEALTHZ).err, ERR_OK);
    cr_assert_eq(judge_header(&f, "Bearer wrong", ENDPOINT_READYZ).err, ERR_OK);
    cr_assert_eq(judge_header(&f, NULL, ENDPOINT_METRICS).err, ERR_UNAUTHORIZED);
    end(&f);
}

// ---- roles ----

Test(keys, a_role_opens_what_it_names)
{
    static const char *const roles[] = {"submit", "read", "operate"};
    // Which of the three may, in this order.
    static const struct {
        enum endpoint endpoint;
        bool may[3];
        const char *missing;
    } rows[] = {
        {ENDPOINT_INGEST, {true, false, false}, "submit"},
        {ENDPOINT_STATUS, {true, true, false}, "read"},
        {ENDPOINT_LIST, {true, true, false}, "read"},
        {ENDPOINT_CANCEL, {true, false, true}, "operate"},
        {ENDPOINT_RETRY, {true, false, true}, "operate"},
        {ENDPOINT_QUEUE_LIST, {false, true, false}, "read"},
        {ENDPOINT_QUEUE_GET, {false, true, false}, "read"},
        {ENDPOINT_QUEUE_PUT, {false, false, true}, "operate"},
        {ENDPOINT_QUEUE_DELETE, {false, false, true}, "operate"},
        {ENDPOINT_QUEUE_PAUSE, {false, false, true}, "operate"},
        {ENDPOINT_QUEUE_RESUME, {false, false, true}, "operate"},
        {ENDPOINT_QUEUE_RETRY, {false, false, true}, "operate"},
        {ENDPOINT_HEALTHZ, {true, true, true}, ""},
        {ENDPOINT_READYZ, {true, true, true}, ""},
        {ENDPOINT_METRICS, {false, true, false}, "read"},
    };
    struct fixture f = begin();
    cr_assert_eq(COUNT(rows), ENDPOINTS);
    for (size_t k = 0; k < COUNT(roles); k++) {
        add_key(&f, roles[k], roles[k], "");
    }
    open_keys(&f);
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t k = 0; k < COUNT(roles); k++) {
            char challenge[128];
            struct verdict v = judge(&f, k, rows[i].endpoint);
            cr_assert_eq(v.err, rows[i].may[k] ? ERR_OK : ERR_FORBIDDEN, "%zu, %s", i, roles[k]);
            if (v.err) {
                (void)snprintf(challenge, sizeof(challenge),
                               "Bearer realm=\"sluice\", error=\"insufficient_scope\", scope=\"%s\"",
                               rows[i].missing);
                cr_assert_str_eq(v.refusal.challenge, challenge);
                (void)snprintf(challenge, sizeof(challenge), "needs the role %s; the key %s has %s.",
                               rows[i].missing, roles[k], roles[k]);
                cr_assert_not_null(strstr(v.fault.detail, challenge), "%s", v.fault.detail);
            }
            pass_end(&v.pass);
        }
    }
    end(&f);
}

// ---- whose, and which queues ----

static struct request limited(const struct fixture *f, size_t key, enum op op)
{
    struct verdict v = judge(f, key, ENDPOINT_STATUS);
    struct request request = {.op = op};
    cr_assert_eq(pass_limit(&v.pass, &request), ERR_OK);
    pass_end(&v.pass);
    return request;
}

Test(keys, a_pass_leaves_what_its_roles_and_queues_do)
{
    static const struct {
        size_t key;
        enum op op;
        bool owned;
        size_t queues;
    } rows[] = {
        {0, OP_INGEST, true, 0},     {0, OP_STATUS, true, 0},     {0, OP_LIST, true, 0},
        {0, OP_CANCEL, true, 0},     {0, OP_RETRY, true, 0},      {1, OP_INGEST, true, 0},
        {1, OP_STATUS, false, 0},    {1, OP_LIST, false, 0},      {1, OP_CANCEL, true, 0},
        {2, OP_INGEST, true, 0},     {2, OP_STATUS, false, 2},    {2, OP_LIST, false, 2},
        {2, OP_CANCEL, false, 2},    {2, OP_RETRY, false, 2},     {2, OP_QUEUE_LIST, false, 2},
        {2, OP_QUEUE_GET, false, 0}, {2, OP_QUEUE_PUT, false, 0}, {1, OP_QUEUE_LIST, false, 0},
        {1, OP_PING, false, 0},      {1, OP_METRICS, false, 0},
    };
    struct fixture f = begin();
    add_key(&f, "shop", "submit", "");
    add_key(&f, "desk", "submit,read", "");
    add_key(&f, "boss", "submit,read,operate", "queues=a,b");
    open_keys(&f);
    for (size_t i = 0; i < COUNT(rows); i++) {
        static const char *const names[] = {"shop", "desk", "boss"};
        struct request request = limited(&f, rows[i].key, rows[i].op);
        if (!rows[i].owned && rows[i].queues == 0) {
            cr_assert_null(request.scope, "%zu", i);
        } else {
            cr_assert_not_null(request.scope, "%zu", i);
            cr_assert_str_eq(request.scope->owner, rows[i].owned ? names[rows[i].key] : "", "%zu", i);
            cr_assert_eq(request.scope->queue_count, rows[i].queues, "%zu", i);
        }
        free(request.scope);
    }
    end(&f);
}

Test(keys, a_queue_that_is_not_the_keys_is_forbidden)
{
    struct fixture f = begin();
    add_key(&f, "boss", "submit,read,operate", "queues=a,b");
    add_key(&f, "all", "submit,read,operate", "");
    open_keys(&f);
    for (size_t key = 0; key < 2; key++) {
        struct verdict v = judge(&f, key, ENDPOINT_STATUS);
        struct request requests[] = {
            {.op = OP_INGEST, .ingest = {.queue = "c"}},
            {.op = OP_LIST, .list = {.has_queue = true, .queue = "c"}},
            {.op = OP_QUEUE_GET, .queue = {.name = "c"}},
            {.op = OP_QUEUE_PUT, .queue = {.name = "default"}},
            {.op = OP_QUEUE_DELETE, .queue = {.name = "c"}},
            {.op = OP_QUEUE_PAUSE, .queue = {.name = "c"}},
            {.op = OP_QUEUE_RESUME, .queue = {.name = "c"}},
            {.op = OP_QUEUE_RETRY, .queue = {.name = "c"}},
            {.op = OP_METRICS},
        };
        struct request fine[] = {
            {.op = OP_INGEST, .ingest = {.queue = "a"}},
            {.op = OP_LIST, .list = {.has_queue = true, .queue = "b"}},
            {.op = OP_LIST, .list = {.has_queue = false}},
            {.op = OP_QUEUE_PUT, .queue = {.name = "b"}},
            {.op = OP_STATUS},
            {.op = OP_QUEUE_LIST},
        };
        for (size_t i = 0; i < COUNT(requests); i++) {
            struct fault fault = {.detail = ""};
            cr_assert_eq(pass_check(&v.pass, &requests[i], &fault), key == 0 ? ERR_FORBIDDEN : ERR_OK, "%zu",
                         i);
            cr_assert(key == 1 || strstr(fault.detail, "the key boss") ||
                          strstr(fault.detail, "The key boss"),
                      "%s", fault.detail);
        }
        for (size_t i = 0; i < COUNT(fine); i++) {
            cr_assert_eq(pass_check(&v.pass, &fine[i], NULL), ERR_OK, "%zu", i);
        }
        pass_end(&v.pass);
    }
    end(&f);
}

// ---- rates ----

static enum err ask_at(const struct fixture *f, int64_t ns, int64_t *retry_after_s)
{
    struct pass pass = {.key = NULL};
    struct refusal refusal;
    struct fault fault;
    char header[128];
    (void)snprintf(header, sizeof(header), "Bearer %s", f->token[0]);
    enum err err = keys_admit(f->keys, header, ENDPOINT_INGEST, (struct mono){ns}, &pass, &refusal, &fault);
    cr_assert(pass.key, "it is known, also when it is too fast");
    *retry_after_s = refusal.retry_after_s;
    pass_end(&pass);
    return err;
}

Test(keys, a_rate_lets_so_many_at_once_and_so_many_each_time)
{
    struct fixture f = begin();
    int64_t after;
    int64_t now = 1000 * NS_PER_S;
    add_key(&f, "shop", "submit", "rate=3/6s");
    open_keys(&f);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(ask_at(&f, now, &after), ERR_OK, "%d", i);
        cr_assert_eq(after, 0);
    }
    cr_assert_eq(ask_at(&f, now, &after), ERR_TOO_MANY_REQUESTS);
    cr_assert_eq(after, 2); // each two seconds
    cr_assert_eq(ask_at(&f, now + 2 * NS_PER_S - 1, &after), ERR_TOO_MANY_REQUESTS);
    cr_assert_eq(after, 1); // in whole seconds, and never too early
    cr_assert_eq(ask_at(&f, now + 2 * NS_PER_S, &after), ERR_OK);
    cr_assert_eq(ask_at(&f, now + 2 * NS_PER_S, &after), ERR_TOO_MANY_REQUESTS);
    now += 3600 * NS_PER_S; // rest is not saved beyond three
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(ask_at(&f, now, &after), ERR_OK, "%d", i);
    }
    cr_assert_eq(ask_at(&f, now, &after), ERR_TOO_MANY_REQUESTS);
    end(&f);
}

// ---- reading again ----

Test(keys, another_rate_begins_anew)
{
    struct fixture f = begin();
    int64_t after;
    add_key(&f, "shop", "submit", "rate=1/1d");
    open_keys(&f);
    cr_assert_eq(ask_at(&f, NS_PER_S, &after), ERR_OK);
    cr_assert_eq(ask_at(&f, NS_PER_S, &after), ERR_TOO_MANY_REQUESTS);
    char *rate = strstr(f.text.data, "1/1d");
    memcpy(rate, "3/1h", 4);
    write_keys(&f, f.text.data, f.text.len);
    cr_assert_eq(keys_reload(f.keys, NULL), ERR_OK);
    cr_assert_eq(ask_at(&f, NS_PER_S, &after), ERR_OK);
    end(&f);
}

Test(keys, a_reload_changes_who_comes_in)
{
    struct fixture f = begin();
    struct fault fault;
    int64_t after;
    add_key(&f, "shop", "submit", "rate=1/1h");
    open_keys(&f);
    cr_assert_eq(keys_count(f.keys), 1);
    cr_assert_eq(ask_at(&f, NS_PER_S, &after), ERR_OK);
    struct verdict before = judge(&f, 0, ENDPOINT_STATUS);
    size_t one = f.text.len;
    add_key(&f, "desk", "read", "");
    cr_assert_eq(judge(&f, 1, ENDPOINT_STATUS).err, ERR_UNAUTHORIZED);
    write_keys(&f, f.text.data, f.text.len);
    cr_assert_eq(keys_reload(f.keys, &fault), ERR_OK);
    cr_assert_eq(keys_count(f.keys), 2);
    struct verdict v = judge(&f, 1, ENDPOINT_STATUS);
    cr_assert_eq(v.err, ERR_OK);
    pass_end(&v.pass);
    cr_assert_eq(ask_at(&f, NS_PER_S, &after), ERR_TOO_MANY_REQUESTS, "what it used it has used");

    write_keys(&f, "shop", 4);
    cr_assert_eq(keys_reload(f.keys, &fault), ERR_INVALID_FIELD);
    cr_assert_not_null(strstr(fault.detail, f.path), "%s", fault.detail);
    cr_assert_eq(keys_count(f.keys), 2, "those before are in force");
    unlink(f.path);
    cr_assert_eq(keys_reload(f.keys, &fault), ERR_STORAGE_IO);
    cr_assert_eq(keys_count(f.keys), 2);

    write_keys(&f, f.text.data + one, f.text.len - one);
    cr_assert_eq(keys_reload(f.keys, &fault), ERR_OK);
    cr_assert_eq(judge(&f, 0, ENDPOINT_INGEST).err, ERR_UNAUTHORIZED, "revoked");
    cr_assert_str_eq(before.pass.key->name, "shop", "a pass outlives its key");
    pass_end(&before.pass);
    end(&f);
}

// The pass of a connection, on which a proxy may send what comes from many.
Test(keys, each_request_of_a_connection_has_its_own_key)
{
    struct fixture f = begin();
    struct pass pass = {.key = NULL};
    add_key(&f, "shop", "submit", "");
    add_key(&f, "desk", "read", "");
    open_keys(&f);
    const struct {
        int key; // -1: none; -2: the first, with another last character
        enum endpoint endpoint;
        enum err err;
        const char *name; // whose the pass is then
    } rows[] = {
        {0, ENDPOINT_INGEST, ERR_OK, "shop"},         {0, ENDPOINT_INGEST, ERR_OK, "shop"},
        {1, ENDPOINT_LIST, ERR_OK, "desk"},           {1, ENDPOINT_INGEST, ERR_FORBIDDEN, "desk"},
        {-1, ENDPOINT_HEALTHZ, ERR_OK, NULL},         {-1, ENDPOINT_LIST, ERR_UNAUTHORIZED, NULL},
        {1, ENDPOINT_HEALTHZ, ERR_OK, NULL},          {1, ENDPOINT_LIST, ERR_OK, "desk"},
        {0, ENDPOINT_METRICS, ERR_FORBIDDEN, "shop"}, {-2, ENDPOINT_LIST, ERR_UNAUTHORIZED, NULL},
        {0, ENDPOINT_LIST, ERR_OK, "shop"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct refusal refusal;
        char header[128];
        (void)snprintf(header, sizeof(header), "Bearer %s", f.token[rows[i].key > 0 ? rows[i].key : 0]);
        header[strlen(header) - 1] = (char)(header[strlen(header) - 1] ^ (rows[i].key == -2));
        cr_assert_eq(keys_admit(f.keys, rows[i].key == -1 ? NULL : header, rows[i].endpoint, mono_now(),
                                &pass, &refusal, NULL),
                     rows[i].err, "%zu", i);
        cr_assert_eq(pass.key != NULL, rows[i].name != NULL, "%zu", i);
        cr_assert(!rows[i].name || strcmp(pass.key->name, rows[i].name) == 0, "%zu", i);
    }
    pass_end(&pass);
    cr_assert_null(pass.ring);
    end(&f);
}

Test(keys, a_revoked_key_is_turned_away_on_its_connection)
{
    struct fixture f = begin();
    struct pass pass = {.key = NULL};
    struct refusal refusal;
    char header[128];
    add_key(&f, "shop", "submit", "");
    open_keys(&f);
    (void)snprintf(header, sizeof(header), "Bearer %s", f.token[0]);
    cr_assert_eq(keys_admit(f.keys, header, ENDPOINT_INGEST, mono_now(), &pass, &refusal, NULL), ERR_OK);
    cr_assert_eq(keys_reload(f.keys, NULL), ERR_OK);
    cr_assert_eq(keys_admit(f.keys, header, ENDPOINT_INGEST, mono_now(), &pass, &refusal, NULL), ERR_OK);
    write_keys(&f, "", 0);
    cr_assert_eq(keys_reload(f.keys, NULL), ERR_OK);
    cr_assert_eq(keys_admit(f.keys, header, ENDPOINT_INGEST, mono_now(), &pass, &refusal, NULL),
                 ERR_UNAUTHORIZED);
    cr_assert_null(pass.key);
    pass_end(&pass);
    end(&f);
}

// A connection, which asks again and again with the same pass.
struct hammer {
    struct fixture *f;
    pthread_t thread;
    atomic_bool stop;
    atomic_size_t asked, wrong;
};

static void *hammer_run(void *arg)
{
    struct hammer *h = arg;
    struct pass pass = {.key = NULL};
    char header[128];
    (void)snprintf(header, sizeof(header), "Bearer %s", h->f->token[0]);
    for (; !h->stop; h->asked++) {
        struct refusal refusal;
        enum err err = keys_admit(h->f->keys, header, ENDPOINT_STATUS, mono_now(), &pass, &refusal, NULL);
        h->wrong += err != ERR_OK || strcmp(pass.key->name, "desk") != 0;
    }
    pass_end(&pass);
    return NULL;
}

Test(keys, nobody_is_turned_away_by_a_reload)
{
    struct fixture f = begin();
    struct hammer hammers[3] = {{.f = &f}, {.f = &f}, {.f = &f}};
    add_key(&f, "desk", "read", "rate=1000000000/s");
    open_keys(&f);
    for (size_t i = 0; i < COUNT(hammers); i++) {
        cr_assert_eq(pthread_create(&hammers[i].thread, NULL, hammer_run, &hammers[i]), 0);
    }
    for (int round = 0; round < 100; round++) {
        size_t before = hammers[0].asked;
        cr_assert_eq(keys_reload(f.keys, NULL), ERR_OK);
        WAIT_FOR(hammers[0].asked > before + 1);
    }
    for (size_t i = 0; i < COUNT(hammers); i++) {
        hammers[i].stop = true;
        pthread_join(hammers[i].thread, NULL);
        cr_assert_eq(hammers[i].wrong, 0);
    }
    end(&f);
}
