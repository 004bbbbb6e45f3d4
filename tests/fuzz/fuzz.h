// fuzz.h - what the fuzz targets share.
//
// A target is one file, fuzz_NAME.c, with LLVMFuzzerTestOneInput. With clang it becomes a libFuzzer program
// (./run.sh fuzz), in every other build a test that replays corpus/NAME (replay.c). What does not hold ends
// the process, so that the fuzzer keeps the input.
#ifndef SLUICE_TESTS_FUZZ_FUZZ_H
#define SLUICE_TESTS_FUZZ_FUZZ_H

#include "proto/request_ops.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Looks at one input; 0.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(what) ((what) ? (void)0 : fuzz_broken(#what, __FILE__, __LINE__))
_Noreturn void fuzz_broken(const char *what, const char *file, int line);

// The input as a text: a copy that ends with a NUL (and for its reader at the first). free() it.
char *fuzz_text(const uint8_t *data, size_t size);

// What holds of every refusal: the fault has the error that was returned, which blames neither us nor memory,
// and one sentence that can be shown to anybody.
void fuzz_refused(enum err err, const struct fault *fault);

// What the short way of decoding takes, the long one takes with the same result.
void fuzz_plain(const char *text, size_t len, enum plain_form form);
bool fuzz_same_request(const struct request *a, const struct request *b);
// The request, as an IPC line and back, is the same.
void fuzz_round_trip(const struct request *request);

#endif
