#include "tests/support/http_client.h"

#include "common/buf.h"
#include "tests/support/wait.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static size_t take(char *data, size_t size, size_t count, void *arg)
{
    buf_put(arg, data, size * count);
    return size * count;
}

static size_t take_header(char *data, size_t size, size_t count, void *arg)
{
    struct buf *headers = arg;
    if (size * count >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        buf_reset(headers); // what came before was a 100
    }
    return take(data, size, count, arg);
}

static struct curl_slist *header_list(const struct http_request *request)
{
    static const char *const json[] = {"Content-Type: application/json", NULL};
    const char *const *headers = request->headers ? request->headers : json;
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; headers[i]; i++) {
        list = curl_slist_append(list, headers[i]);
    }
    return list;
}

static char *text_of(struct buf *buf, size_t *len)
{
    buf_str(buf, ""); // so that there is a NUL in any case
    char *text = buf_take(buf, len);
    return text ? text : strdup("");
}

struct http_response http_send(const struct http_request *request)
{
    struct http_response response = {0};
    struct buf headers, body;
    struct curl_slist *list = header_list(request);
    size_t headers_len;
    CURL *curl = curl_easy_init();
    buf_init(&headers);
    buf_init(&body);
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)WAIT_S);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &headers);
    if (request->body) {
        size_t len = request->body_len ? request->body_len : strlen(request->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
    }
    if (request->method) {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
        curl_easy_setopt(curl, CURLOPT_NOBODY, strcmp(request->method, "HEAD") == 0 ? 1L : 0L);
    }
    if (curl_easy_perform(curl) == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
    }
    curl_easy_cleanup(curl);
    curl_slist_free_all(list);
    response.headers = text_of(&headers, &headers_len);
    response.body = text_of(&body, &response.len);
    response.json = cJSON_Parse(response.body);
    return response;
}

void http_response_fini(struct http_response *response)
{
    free(response->headers);
    free(response->body);
    cJSON_Delete(response->json);
    *response = (struct http_response){0};
}

bool http_response_header(const struct http_response *response, const char *name, char *value, size_t size)
{
    size_t name_len = strlen(name);
    for (const char *line = response->headers; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, name, name_len) != 0 || line[name_len] != ':') {
            continue;
        }
        const char *start = line + name_len + 1 + strspn(line + name_len + 1, " ");
        size_t len = strcspn(start, "\r\n");
        if (len >= size) {
            return false;
        }
        memcpy(value, start, len);
        value[len] = '\0';
        return true;
    }
    return false;
}

const cJSON *json_member(const cJSON *object, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    cr_assert_not_null(member, "there is no member %s", name);
    return member;
}

const char *json_text(const cJSON *object, const char *name)
{
    const cJSON *member = json_member(object, name);
    cr_assert(cJSON_IsString(member), "%s is no string", name);
    return member->valuestring;
}

double json_number(const cJSON *object, const char *name)
{
    const cJSON *member = json_member(object, name);
    cr_assert(cJSON_IsNumber(member), "%s is no number", name);
    return member->valuedouble;
}
