// Hands IDs in and waits until they are done:   ingest ID...
//
//     cc -o ingest ingest.c $(pkg-config --cflags --libs sluice)
#include <sluice/client.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Sends a line and gives the reply, which is one line as well. Ends the program where there is none, or no
// good one.
static char *ask(struct sluice_client *client, const char *line)
{
    char *reply;
    size_t len;
    int result = sluice_request(client, line, strlen(line), &reply, &len);
    if (result != SLUICE_OK) {
        fprintf(stderr, "%s\n", sluice_result_text(result));
        exit(1);
    }
    if (strncmp(reply, "{\"ok\":true", 10) != 0) { // {"error":{"code":"...","message":"..."}}
        fputs(reply, stderr);
        exit(1);
    }
    return reply;
}

int main(int argc, char **argv)
{
    struct sluice_client *client;
    char id[SLUICE_ID_SIZE], ids[4096] = "", line[8192];
    for (int i = 1; i < argc && strlen(ids) + strlen(argv[i]) + 2 < sizeof(ids); i++) {
        strcat(strcat(ids, i > 1 ? "," : ""), argv[i]);
    }

    // NULL: where the scheduler is looked for by default. 5000: milliseconds for each request.
    int result = sluice_open(NULL, 5000, &client);
    if (result != SLUICE_OK || (result = sluice_mint(client, id)) != SLUICE_OK) {
        fprintf(stderr, "%s\n", sluice_result_text(result));
        return 1;
    }

    // The ID is minted here: however often this line is sent, it is one ingestion.
    snprintf(line, sizeof(line), "{\"op\":\"ingest\",\"id\":\"%s\",\"ids\":[%s],\"priority\":\"HIGH\"}\n", id,
             ids);
    sluice_free(ask(client, line));
    printf("%s\n", id);

    // A real program would use a JSON library here.
    snprintf(line, sizeof(line), "{\"op\":\"status\",\"id\":\"%s\",\"limit\":1}\n", id);
    for (;;) {
        char *reply = ask(client, line);
        char *status = strstr(reply, "\"status\":\"") + 10;
        status[strcspn(status, "\"")] = '\0';
        if (strcmp(status, "yet_to_start") != 0 && strcmp(status, "triggered") != 0) {
            printf("%s\n", status);
            sluice_free(reply);
            break;
        }
        sluice_free(reply);
        usleep(100000);
    }
    sluice_close(client);
    return 0;
}
