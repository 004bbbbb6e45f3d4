// client.h - a client of sluice-scheduler: lines out, lines in, over its socket (PROTOCOL.md says what stands
// in them).
//
// This header and the library `sluice` (pkg-config: sluice) are for other people's programs; nothing else of
// Sluice is needed. All names begin with sluice_ or SLUICE_. Nothing is printed, no signal is touched, no
// file is written; opening a client starts the threads of NNG, so fork before that, not after.
//
// A client is used by one thread at a time; several clients may be used side by side, one a thread.
//
//     struct sluice_client *client;
//     if (sluice_open(NULL, 5000, &client) == SLUICE_OK) {
//         static const char line[] = "{\"op\":\"ping\"}\n";
//         char *reply;
//         size_t len;
//         if (sluice_request(client, line, strlen(line), &reply, &len) == SLUICE_OK) {
//             fputs(reply, stdout);
//             sluice_free(reply);
//         }
//         sluice_close(client);
//     }
#ifndef SLUICE_CLIENT_H
#define SLUICE_CLIENT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SLUICE_API __attribute__((visibility("default")))
#else
#define SLUICE_API
#endif

// How a call ended. The numbers stay; there may be new ones.
enum sluice_result {
    SLUICE_OK = 0,
    SLUICE_INVALID = 1,     // an argument: an address that is none, a message that is empty or too long
    SLUICE_FORBIDDEN = 2,   // the socket is there, and this user may not use it
    SLUICE_UNAVAILABLE = 3, // no scheduler was reached in time; nothing of it was done
    SLUICE_UNKNOWN = 4,  // it was sent, and no reply came in time: it may have been done. See sluice_request
    SLUICE_PROTOCOL = 5, // what came back is not one line for each line that was sent
    SLUICE_NO_MEMORY = 6,
    SLUICE_FAILED = 7, // the system refuses what is needed: descriptors, threads, random bytes
};

#define SLUICE_MESSAGE_MAX 16777216 // bytes of all lines of a request
#define SLUICE_LINES_MAX 16384      // lines of a request
#define SLUICE_ID_SIZE 37           // 36 characters and a NUL

struct sluice_client;

// A client of the scheduler at `address`, "ipc://PATH" (a path of at most 107 bytes). NULL: the one that
// sluice_address gives.
// timeout_ms: how long a request may take in all, from 1 to 86400000.
// The scheduler need not be there yet: the first request waits for it, up to its time.
// SLUICE_OK: *client is the caller's, who gives it back with sluice_close. SLUICE_INVALID, SLUICE_FORBIDDEN,
// SLUICE_NO_MEMORY, SLUICE_FAILED: *client is NULL.
SLUICE_API int sluice_open(const char *address, int timeout_ms, struct sluice_client **client);

// Ends the connection and frees the client. NULL is fine.
SLUICE_API void sluice_close(struct sluice_client *client);

// Sends lines (JSON objects, each ended by a newline; that of the last may be missing) as one message, and
// waits for the reply: one line for each, in the same order, each ended by a newline. `lines` is borrowed,
// len is its length in bytes without any NUL. SLUICE_OK: *reply is the caller's, who gives it back with
// sluice_free; it is NUL-terminated, *reply_len bytes without the NUL. Otherwise *reply is NULL.
//
// When the connection breaks, as in a restart of the scheduler, the same lines are sent again until the time
// is over. So a line may be carried out twice. Mint the "id" of each ingest (sluice_mint), and the scheduler
// accepts it once, however often it is sent; the same holds when you send the line again yourself after
// SLUICE_UNKNOWN. What a repetition means for other operations: PROTOCOL.md, "At least once".
//
// SLUICE_OK says that there is a reply, not that it is a good one: look for {"ok":true or {"error":{"code":…
// in each line. SLUICE_INVALID, SLUICE_UNAVAILABLE, SLUICE_UNKNOWN, SLUICE_PROTOCOL, SLUICE_NO_MEMORY,
// SLUICE_FAILED.
SLUICE_API int sluice_request(struct sluice_client *client, const char *lines, size_t len, char **reply,
                              size_t *reply_len);

// Changes how long the next requests may take, from 1 to 86400000 ms. SLUICE_INVALID.
SLUICE_API int sluice_set_timeout(struct sluice_client *client, int timeout_ms);

// A new ID (UUID version 7, lower case, with a NUL) for the "id" of an ingest or a lease. SLUICE_OK or
// SLUICE_FAILED.
SLUICE_API int sluice_mint(struct sluice_client *client, char id[SLUICE_ID_SIZE]);

// Where a scheduler is looked for when nobody says: $SLUICE_IPC; sluice.sock in $SLUICE_DATA;
// ./data/sluice.sock, if it is a socket that belongs to this user or to root; and at last
// /run/sluice/sluice.sock. (A variable that is empty counts as absent.) Writes "ipc://PATH" with a NUL into
// `address` of `size` bytes. SLUICE_OK; SLUICE_INVALID when it does not fit. It reads the environment: not
// while another thread changes it.
SLUICE_API int sluice_address(char *address, size_t size);

// What a result means, in a few words of English. Never NULL; not to be freed.
SLUICE_API const char *sluice_result_text(int result);

// Frees a reply. NULL is fine.
SLUICE_API void sluice_free(char *reply);

#ifdef __cplusplus
}
#endif

#endif
