// A file of keys to a list of them. What is taken can be written and read again.
#include "proto/key.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static bool same_key(const struct key *a, const struct key *b)
{
    bool same = strcmp(a->name, b->name) == 0 && a->roles == b->roles && a->queue_count == b->queue_count &&
                memcmp(a->hash, b->hash, KEY_HASH_BYTES) == 0 && a->rate.count == b->rate.count &&
                a->rate.per_ns == b->rate.per_ns;
    for (size_t i = 0; same && i < a->queue_count; i++) {
        same = strcmp(a->queues[i], b->queues[i]) == 0;
    }
    return same;
}

static void check_key(const struct key *key)
{
    REQUIRE(queue_name_valid(key->name) && key->roles > 0 && key->roles < 8);
    REQUIRE(key->queue_count <= SCOPE_QUEUES_MAX && (key->queue_count > 0) == (key->queues != NULL));
    for (size_t i = 0; i < key->queue_count; i++) {
        REQUIRE(queue_name_valid(key->queues[i]) && key_has_queue(key, key->queues[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct key_list list;
    struct key_list again;
    struct fault fault = {0};
    struct buf text;
    enum err err = key_list_parse((const char *)data, size, &list, &fault);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
        REQUIRE(strncmp(fault.detail, "line ", 5) == 0 || strncmp(fault.detail, "the keys ", 9) == 0);
        REQUIRE(list.count == 0 && !list.keys);
        return 0;
    }
    buf_init(&text);
    for (size_t i = 0; i < list.count; i++) {
        check_key(&list.keys[i]);
        REQUIRE(i == 0 || memcmp(list.keys[i - 1].hash, list.keys[i].hash, KEY_HASH_BYTES) < 0);
        key_format(&list.keys[i], &text);
    }
    REQUIRE(key_list_parse(text.data, text.len, &again, NULL) == ERR_OK && again.count == list.count);
    for (size_t i = 0; i < list.count; i++) {
        REQUIRE(same_key(&list.keys[i], &again.keys[i]));
    }
    REQUIRE(!key_list_find(&list, (const char *)data, size)); // it would be BLAKE2b turned round
    buf_fini(&text);
    key_list_fini(&again);
    key_list_fini(&list);
    return 0;
}
