#include "scheduler/ipc_pipes.h"

#include "scheduler/ipc.h"

#include <pthread.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>

struct connection {
    uint32_t pipe; // first, as the tree's key
    size_t kept;
    struct ipc_gone *gone; // owned; there when something is kept, so that an end always has its word
};

struct ipc_pipes {
    nng_socket socket;
    struct inbox *inbox;
    pthread_mutex_t lock; // guards what follows; the inbox's is taken inside it
    bool stopped;
    void *living; // a tree (tsearch) of struct connection
};

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

static struct connection *find(struct ipc_pipes *pipes, uint32_t pipe)
{
    void *const *found = tfind(&pipe, &pipes->living, compare);

    return found ? *found : NULL;
}

static void free_connection(void *node)
{
    struct connection *connection = node;

    free(connection->gone);
    free(connection);
}

static struct ipc_gone *make_gone(uint32_t pipe)
{
    struct ipc_gone *gone = calloc(1, sizeof(*gone));

    if (gone) {
        gone->item.kind = INBOX_GONE;
        gone->pipe = pipe;
    }
    return gone;
}

enum listing { LISTED_NEW, LISTED_OLD, LISTED_NO_MEMORY };

static enum listing put_in(struct ipc_pipes *pipes, struct connection *connection)
{
    enum listing listing = LISTED_NO_MEMORY;

    pthread_mutex_lock(&pipes->lock);
    void *const *place = tsearch(connection, &pipes->living, compare);
    if (place) {
        listing = *place == connection ? LISTED_NEW : LISTED_OLD;
    }
    pthread_mutex_unlock(&pipes->lock);
    return listing; // it may be gone again
}

// Before any message of the connection can come.
static void on_begin(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    enum listing listing = LISTED_NO_MEMORY;

    (void)event;
    if (connection) {
        connection->pipe = pipe.id;
        listing = put_in(arg, connection);
    }
    switch (listing) {
    case LISTED_NEW:
        break;
    case LISTED_OLD:
        // When NNG is closing it, the word of a connection's end can overtake that of its begin. It stays
        // here then, of no use, until its number comes round again.
        free(connection);
        break;
    case LISTED_NO_MEMORY:
        free(connection);
        nng_pipe_close(pipe); // refuses it
        break;
    }
}

static void on_end(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct ipc_pipes *pipes = arg;

    (void)event;
    pthread_mutex_lock(&pipes->lock);
    struct connection *connection = find(pipes, pipe.id);
    if (connection) {
        (void)tdelete(connection, &pipes->living, compare);
        if (connection->kept > 0 && !pipes->stopped) {
            inbox_post(pipes->inbox, &connection->gone->item);
            connection->gone = NULL;
        }
        free_connection(connection);
    }
    pthread_mutex_unlock(&pipes->lock);
}

enum err ipc_pipes_new(nng_socket socket, struct inbox *inbox, struct ipc_pipes **pipes)
{
    struct ipc_pipes *made = calloc(1, sizeof(*made));

    if (!made) {
        return ERR_NO_MEMORY;
    }
    made->socket = socket;
    made->inbox = inbox;
    pthread_mutex_init(&made->lock, NULL);
    if (nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, on_begin, made) != 0 ||
        nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, on_end, made) != 0) {
        ipc_pipes_free(made);
        return ERR_INTERNAL;
    }
    *pipes = made;
    return ERR_OK;
}

enum err ipc_pipes_keep(struct ipc_pipes *pipes, uint32_t pipe)
{
    struct ipc_gone *gone = make_gone(pipe);

    if (!gone) {
        return ERR_NO_MEMORY;
    }
    pthread_mutex_lock(&pipes->lock);
    struct connection *connection = find(pipes, pipe);
    if (connection) {
        connection->kept++;
        if (!connection->gone) {
            connection->gone = gone;
            gone = NULL;
        }
    } else if (!pipes->stopped) {
        inbox_post(pipes->inbox, &gone->item);
        gone = NULL;
    }
    pthread_mutex_unlock(&pipes->lock);
    free(gone);
    return ERR_OK;
}

void ipc_pipes_release(struct ipc_pipes *pipes, uint32_t pipe)
{
    pthread_mutex_lock(&pipes->lock);
    struct connection *connection = find(pipes, pipe);
    if (connection) {
        connection->kept--;
    }
    pthread_mutex_unlock(&pipes->lock);
}

void ipc_pipes_stop(struct ipc_pipes *pipes)
{
    // A call under way belongs to a connection that nng_close waits for.
    (void)nng_pipe_notify(pipes->socket, NNG_PIPE_EV_ADD_PRE, NULL, NULL);
    (void)nng_pipe_notify(pipes->socket, NNG_PIPE_EV_REM_POST, NULL, NULL);
    pthread_mutex_lock(&pipes->lock);
    pipes->stopped = true;
    pthread_mutex_unlock(&pipes->lock);
}

void ipc_pipes_free(struct ipc_pipes *pipes)
{
    if (!pipes) {
        return;
    }
    tdestroy(pipes->living, free_connection);
    pthread_mutex_destroy(&pipes->lock);
    free(pipes);
}
