// An IPC line to a request. What is taken can be written and read again.
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request request;
    struct fault fault = {0};
    fuzz_plain((const char *)data, size, PLAIN_LINE);
    enum err err = request_from_line((const char *)data, size, &request, &fault);
    if (err != ERR_OK) {
        fuzz_refused(err, &fault);
        REQUIRE(request_from_line((const char *)data, size, &request, NULL) == err);
        return 0;
    }
    REQUIRE(op_name(request.op)[0] != '\0');
    fuzz_round_trip(&request);
    request_fini(&request);
    return 0;
}
