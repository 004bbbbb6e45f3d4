// request_ops.h - what decodes and encodes each kind of request, for request.c. Pure; any
// thread.
#ifndef SLUICE_PROTO_REQUEST_OPS_H
#define SLUICE_PROTO_REQUEST_OPS_H

#include "proto/request.h"

// What is being decoded: the text, and what it was parsed into.
struct source {
    const char *text;
    size_t len;
    struct json json;
};

// Into a zeroed request whose op is set; unknown members were refused before. On failure the caller calls
// request_fini.
typedef enum err request_decoder(const struct source *source, struct request *request, struct fault *fault);
// The members after "op", each with a comma in front.
typedef void request_encoder(const struct request *request, struct buf *out);

// An ingest whose members are each written plainly: strings of printable ASCII without escapes, IDs as
// integers; no idempotency_key and no times. False says nothing about the text: the decoders below decide.
// What it takes they take, too, with the same result.
enum plain_form { PLAIN_BODY, PLAIN_LINE };
bool request_plain(const char *text, size_t len, enum plain_form form, struct request *request);

// The members that an HTTP ingest body and an IPC line have in common.
request_decoder ingest_decode_content;
enum err ingest_too_many_ids(struct fault *fault);

request_decoder ingest_decode, status_decode, list_decode, ingestion_decode;
request_encoder ingest_encode, status_encode, list_encode, ingestion_encode;

// queue_put_decode reads name and change; the members of the change are known to be allowed.
request_decoder queue_decode, queue_put_decode, queue_list_decode;
request_encoder queue_encode, queue_put_encode, queue_list_encode;

// settle_decode is for ack, nack and extend.
request_decoder lease_decode, settle_decode;
request_encoder lease_encode, settle_encode;

request_decoder backup_decode;
request_encoder backup_encode;

#endif
