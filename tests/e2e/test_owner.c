// Whose ingestions a request is about, and on which queues: what is not in its scope is not there, and there
// is no telling the two apart.
#include "tests/support/worker.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ABSENT_ID "0190163d-8694-739b-aea5-966c26f8ad91"

TestSuite(owner, .fini = sluice_cleanup);

struct scene {
    struct sluice *sluice;
    struct worker *worker;
};

static void put_queue(const struct scene *scene, const char *name, const char *settings)
{
    reply_expect_ok(worker_ask(scene->worker, "{\"op\":\"queue.put\",\"name\":\"%s\",%s}", name, settings));
}

// Nothing is dispatched on these queues.
static struct scene scene_start(void)
{
    struct scene scene = {.sluice = sluice_new(LIST("--access-log", "on"), NULL)};
    sluice_launch(scene.sluice, SCHEDULER);
    scene.worker = worker_new(scene.sluice);
    put_queue(&scene, "mail", "\"target\":\"pull:\",\"batch_size\":1");
    put_queue(&scene, "work", "\"target\":\"pull:\",\"batch_size\":1");
    return scene;
}

static void scene_end(struct scene *scene)
{
    worker_free(scene->worker);
    sluice_end(scene->sluice);
}

static void restart(struct scene *scene)
{
    worker_free(scene->worker);
    sluice_kill(scene->sluice, SCHEDULER);
    sluice_launch(scene->sluice, SCHEDULER);
    scene->worker = worker_new(scene->sluice);
}

// `more`: further members, with a comma in front.
static cJSON *ingest_on(const struct scene *scene, const char *queue, const char *more)
{
    return worker_ask(scene->worker,
                      "{\"op\":\"ingest\",\"queue\":\"%s\",\"ids\":[1,2],\"priority\":\"LOW\"%s}", queue,
                      more);
}

static struct ingested ingest(const struct scene *scene, const char *queue, const char *more)
{
    struct ingested ingested;
    cJSON *reply = ingest_on(scene, queue, more);
    cr_assert(cJSON_IsFalse(json_member(reply, "replayed")));
    (void)snprintf(ingested.id, sizeof(ingested.id), "%s", json_text(reply, "ingestion_id"));
    cJSON_Delete(reply);
    return ingested;
}

// One operation on an ingestion, in a scope (members with a comma in front).
static cJSON *about(const struct scene *scene, const char *op, const char *id, const char *scope)
{
    return worker_ask(scene->worker, "{\"op\":\"%s\",\"id\":\"%s\"%s}", op, id, scope);
}

static void expect_same(cJSON *a, cJSON *b)
{
    char *first = cJSON_PrintUnformatted(a), *second = cJSON_PrintUnformatted(b);
    cr_assert_str_eq(first, second);
    cJSON_free(first);
    cJSON_free(second);
    cJSON_Delete(a);
    cJSON_Delete(b);
}

static bool has_status(const struct scene *scene, const char *id, const char *status)
{
    cJSON *reply = about(scene, "status", id, "");
    bool same = strcmp(json_text(reply, "status"), status) == 0;
    cJSON_Delete(reply);
    return same;
}

// "" where there is none.
static void expect_owner(const cJSON *shown, const char *owner)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(shown, "owner");
    char *text = cJSON_PrintUnformatted(shown);
    cr_assert_eq(member != NULL, owner[0] != '\0', "%s", text);
    cr_assert(!member || (strcmp(json_text(shown, "owner"), owner) == 0 &&
                          strcmp(member->prev->string, "queue") == 0),
              "%s", text);
    cJSON_free(text);
}

// ---- status, cancel, retry ----

Test(owner, what_is_not_in_the_scope_is_not_there)
{
    static const struct {
        const char *scope;
        bool has[4];
    } cases[] = {
        {"", {true, true, true, true}},
        {",\"owner\":\"ann\"", {true, true, false, false}},
        {",\"owner\":\"bob\"", {false, false, true, false}},
        {",\"owner\":\"an\"", {false, false, false, false}},
        {",\"queues\":[\"mail\"]", {true, false, true, true}},
        {",\"queues\":[\"nowhere\",\"work\"]", {false, true, false, false}},
        {",\"queues\":[\"nowhere\"]", {false, false, false, false}},
        {",\"owner\":\"ann\",\"queues\":[\"work\",\"mail\"]", {true, true, false, false}},
        {",\"queues\":[\"work\"],\"owner\":\"ann\"", {false, true, false, false}},
        {",\"queues\":[\"work\"],\"owner\":\"bob\"", {false, false, false, false}},
    };
    static const char *const ops[] = {"status", "retry", "cancel"};
    struct scene scene = scene_start();
    const struct ingested all[] = {ingest(&scene, "mail", ",\"owner\":\"ann\""),
                                   ingest(&scene, "work", ",\"owner\":\"ann\""),
                                   ingest(&scene, "mail", ",\"owner\":\"bob\""), ingest(&scene, "mail", "")};
    for (size_t c = 0; c < COUNT(cases); c++) {
        for (size_t i = 0; i < COUNT(all); i++) {
            for (size_t op = 0; op < COUNT(ops) - cases[c].has[i]; op++) {
                cJSON *reply = about(&scene, ops[op], all[i].id, cases[c].scope);
                if (cases[c].has[i]) {
                    cr_assert_str_eq(json_text(reply, "ingestion_id"), all[i].id);
                    cJSON_Delete(reply);
                } else {
                    expect_same(reply, about(&scene, ops[op], ABSENT_ID, cases[c].scope));
                }
            }
            cr_assert(has_status(&scene, all[i].id, "yet_to_start")); // whatever was asked
        }
    }
    reply_expect_ok(about(&scene, "cancel", all[1].id, ",\"owner\":\"ann\",\"queues\":[\"work\"]"));
    static const char *const left[] = {"yet_to_start", "cancelled", "yet_to_start", "yet_to_start"};
    for (size_t i = 0; i < COUNT(all); i++) {
        cr_assert(has_status(&scene, all[i].id, left[i]));
    }
    scene_end(&scene);
}

// Nor is what has failed retried by another.
Test(owner, a_retry_is_of_what_is_in_the_scope)
{
    struct scene scene = scene_start();
    put_queue(&scene, "fails",
              "\"target\":\"simulate:1ms,fail=1\",\"rate\":\"unlimited\",\"retry\":{\"max_attempts\":1}");
    struct ingested ingested = ingest(&scene, "fails", ",\"owner\":\"ann\"");
    WAIT_FOR(has_status(&scene, ingested.id, "failed"));
    put_queue(&scene, "fails", "\"target\":\"pull:\"");
    expect_same(about(&scene, "retry", ingested.id, ",\"owner\":\"bob\""),
                about(&scene, "retry", ABSENT_ID, ",\"owner\":\"bob\""));
    reply_expect_error(about(&scene, "retry", ingested.id, ",\"queues\":[\"mail\"]"), "not_found");
    reply_expect_error(about(&scene, "cancel", ingested.id, ",\"owner\":\"bob\""), "not_found");
    reply_expect_error(about(&scene, "cancel", ingested.id, ",\"owner\":\"ann\""), "already_finished");
    cr_assert(has_status(&scene, ingested.id, "failed"));
    cJSON *reply = about(&scene, "retry", ingested.id, ",\"owner\":\"ann\",\"queues\":[\"fails\"]");
    expect_owner(reply, "ann");
    cr_assert_str_eq(json_text(reply, "status"), "yet_to_start");
    cJSON_Delete(reply);
    scene_end(&scene);
}

// ---- ingest ----

Test(owner, the_same_key_of_two_owners_is_two_ingestions)
{
    static const char *const owners[] = {",\"owner\":\"ann\"", ",\"owner\":\"bob\"", ""};
    struct scene scene = scene_start();
    struct ingested first[COUNT(owners)];
    char more[128];
    for (size_t i = 0; i < COUNT(owners); i++) {
        (void)snprintf(more, sizeof(more), ",\"idempotency_key\":\"k\"%s", owners[i]);
        first[i] = ingest(&scene, "mail", more);
    }
    for (int killed = 0; killed < 2; killed++) {
        for (size_t i = 0; i < COUNT(owners); i++) {
            (void)snprintf(more, sizeof(more), ",\"idempotency_key\":\"k\"%s", owners[i]);
            cJSON *reply = ingest_on(&scene, "mail", more);
            cr_assert(cJSON_IsTrue(json_member(reply, "replayed")));
            cr_assert_str_eq(json_text(reply, "ingestion_id"), first[i].id);
            cJSON_Delete(reply);
            reply_expect_error(ingest_on(&scene, "work", more), "idempotency_key_reused");
            for (size_t other = 0; other < COUNT(owners); other++) { // the same ID
                (void)snprintf(more, sizeof(more), ",\"id\":\"%s\"%s", first[i].id, owners[other]);
                reply = ingest_on(&scene, "mail", more);
                if (other == i) {
                    reply_expect_ok(reply);
                } else {
                    reply_expect_error(reply, "id_reused");
                }
            }
        }
        restart(&scene);
    }
    scene_end(&scene);
}

Test(owner, it_is_shown_and_logged_and_outlives_a_restart)
{
    char text[128];
    struct scene scene = scene_start();
    struct ingested anns = ingest(&scene, "mail", ",\"owner\":\"ann\"");
    struct ingested nobodys = ingest(&scene, "mail", "");
    for (int killed = 0; killed < 2; killed++) {
        cJSON *reply = about(&scene, "status", anns.id, "");
        expect_owner(reply, "ann");
        cJSON_Delete(reply);
        reply = about(&scene, "status", nobodys.id, "");
        expect_owner(reply, "");
        cJSON_Delete(reply);
        reply = worker_ask(scene.worker, "{\"op\":\"list\"}");
        expect_owner(cJSON_GetArrayItem(json_member(reply, "ingestions"), 0), "");
        expect_owner(cJSON_GetArrayItem(json_member(reply, "ingestions"), 1), "ann");
        cJSON_Delete(reply);
        reply = about(&scene, killed ? "cancel" : "retry", anns.id, "");
        expect_owner(reply, "ann");
        cJSON_Delete(reply);
        restart(&scene);
    }
    (void)snprintf(text, sizeof(text), "ingestion=%s queue=mail priority=LOW ids=2 owner=ann", anns.id);
    WAIT_FOR(sluice_logged(scene.sluice, SCHEDULER, text));
    (void)snprintf(text, sizeof(text), "ingestion=%s queue=mail priority=LOW ids=2 owner=", nobodys.id);
    cr_assert_not(sluice_logged(scene.sluice, SCHEDULER, text));
    scene_end(&scene);
}

// ---- list ----

// The IDs that a list gives, over all of its pages.
static void expect_list(const struct scene *scene, const char *filter, const struct ingested *const *want,
                        size_t count, unsigned limit)
{
    char cursor[64] = "";
    size_t seen = 0;
    do {
        cJSON *reply = worker_ask(scene->worker, "{\"op\":\"list\",\"limit\":%u%s%s}", limit, filter, cursor);
        const cJSON *row, *next = json_member(reply, "next_cursor");
        cJSON_ArrayForEach(row, json_member(reply, "ingestions"))
        {
            cr_assert(seen < count, "%s: too many", filter);
            cr_assert_str_eq(json_text(row, "ingestion_id"), want[seen]->id, "%s: row %zu", filter, seen);
            seen++;
        }
        cursor[0] = '\0';
        if (cJSON_IsString(next)) {
            (void)snprintf(cursor, sizeof(cursor), ",\"cursor\":\"%s\"", next->valuestring);
        }
        cJSON_Delete(reply);
    } while (cursor[0] != '\0');
    cr_assert_eq(seen, count, "%s: %zu of %zu", filter, seen, count);
}

Test(owner, lists_are_of_what_is_in_the_scope)
{
    struct scene scene = scene_start();
    const struct ingested a = ingest(&scene, "mail", ",\"owner\":\"ann\"");
    const struct ingested b = ingest(&scene, "work", ",\"owner\":\"bob\"");
    const struct ingested c = ingest(&scene, "work", ",\"owner\":\"ann\"");
    const struct ingested d = ingest(&scene, "mail", "");
    for (unsigned limit = 1; limit < 4; limit++) {
        expect_list(&scene, "", (const struct ingested *[]){&d, &c, &b, &a}, 4, limit);
        expect_list(&scene, ",\"owner\":\"ann\"", (const struct ingested *[]){&c, &a}, 2, limit);
        expect_list(&scene, ",\"queues\":[\"work\"]", (const struct ingested *[]){&c, &b}, 2, limit);
        expect_list(&scene, ",\"queues\":[\"work\",\"x\",\"mail\"],\"queue\":\"mail\"",
                    (const struct ingested *[]){&d, &a}, 2, limit);
        expect_list(&scene, ",\"owner\":\"ann\",\"queue\":\"work\"", (const struct ingested *[]){&c}, 1,
                    limit);
        // Whether a queue that is not in the scope is there is not said.
        expect_list(&scene, ",\"queues\":[\"work\"],\"queue\":\"mail\"", NULL, 0, limit);
        expect_list(&scene, ",\"queues\":[\"work\"],\"queue\":\"x\"", NULL, 0, limit);
        expect_list(&scene, ",\"queues\":[\"x\"]", NULL, 0, limit);
        expect_list(&scene, ",\"owner\":\"eve\"", NULL, 0, limit);
    }
    reply_expect_error(
        worker_ask(scene.worker, "{\"op\":\"list\",\"queues\":[\"x\"],\"queue\":\"x\",\"owner\":\"ann\"}"),
        "unknown_queue");
    reply_expect_error(worker_ask(scene.worker, "{\"op\":\"list\",\"queue\":\"x\"}"), "unknown_queue");
    scene_end(&scene);
}

// What a deleted queue has left belongs to none of that name.
Test(owner, a_new_queue_has_nothing_of_the_old_one)
{
    static const char scope[] = ",\"owner\":\"ann\",\"queues\":[\"work\"]";
    struct scene scene = scene_start();
    struct ingested old = ingest(&scene, "work", ",\"owner\":\"ann\"");
    reply_expect_ok(about(&scene, "cancel", old.id, scope));
    for (int made_anew = 0; made_anew < 2; made_anew++) {
        reply_expect_ok(about(&scene, "status", old.id, made_anew ? ",\"owner\":\"ann\"" : scope));
        reply_expect_ok(worker_ask(scene.worker, "{\"op\":\"queue.delete\",\"name\":\"work\"}"));
        reply_expect_error(about(&scene, "status", old.id, scope), "not_found");
        put_queue(&scene, "work", "\"target\":\"pull:\"");
        reply_expect_error(about(&scene, "status", old.id, scope), "not_found");
        reply_expect_error(about(&scene, "cancel", old.id, scope), "not_found");
        expect_list(&scene, scope, NULL, 0, 10);
    }
    cr_assert(has_status(&scene, old.id, "cancelled"));
    scene_end(&scene);
}

// ---- queue.list ----

static void expect_queues(const struct scene *scene, const char *members, const char *names, const char *next)
{
    char seen[256] = "";
    size_t len = 0;
    cJSON *reply = worker_ask(scene->worker, "{\"op\":\"queue.list\"%s}", members);
    const cJSON *row;
    cJSON_ArrayForEach(row, json_member(reply, "queues"))
    {
        len += (size_t)snprintf(seen + len, sizeof(seen) - len, "%s ", json_text(row, "name"));
    }
    cr_assert_str_eq(seen, names, "%s", members);
    const cJSON *cursor = json_member(reply, "next_cursor");
    cr_assert_str_eq(cJSON_IsString(cursor) ? cursor->valuestring : "null", next, "%s", members);
    cJSON_Delete(reply);
}

Test(owner, queues_are_those_of_the_scope)
{
    struct scene scene = scene_start();
    put_queue(&scene, "zoo", "\"target\":\"pull:\"");
    expect_queues(&scene, "", "default mail work zoo ", "null");
    expect_queues(&scene, ",\"queues\":[\"zoo\",\"mail\",\"x\",\"mail\"]", "mail zoo ", "null");
    expect_queues(&scene, ",\"queues\":[\"zoo\",\"mail\"],\"limit\":1", "mail ", "mail");
    expect_queues(&scene, ",\"queues\":[\"zoo\",\"mail\"],\"limit\":2", "mail zoo ", "null");
    expect_queues(&scene, ",\"queues\":[\"zoo\",\"mail\"],\"limit\":1,\"cursor\":\"mail\"", "zoo ", "null");
    expect_queues(&scene, ",\"queues\":[\"zoo\",\"mail\"],\"cursor\":\"nobody\"", "zoo ", "null");
    expect_queues(&scene, ",\"queues\":[\"mail\",\"default\"],\"cursor\":\"work\"", "", "null");
    expect_queues(&scene, ",\"queues\":[\"x\"]", "", "null");
    expect_queues(&scene, ",\"limit\":3", "default mail work ", "work");
    scene_end(&scene);
}
