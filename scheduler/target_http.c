#include "scheduler/target_http.h"

enum err target_http_check(const char *text, struct fault *fault)
{
    (void)text;
    return fault_set(fault, ERR_NOT_IMPLEMENTED, "http");
}

enum err target_http_new(const char *text, struct inbox *inbox, struct target **target, struct fault *fault)
{
    (void)inbox, (void)target;
    return target_http_check(text, fault);
}
