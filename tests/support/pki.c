#include "tests/support/pki.h"

#include "tests/support/process.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

// Not what the system's own configuration would add.
#define REQUEST                                                                                              \
    "printf '[req]\\ndistinguished_name=dn\\n[dn]\\n' >openssl.cnf && "                                      \
    "openssl req -config openssl.cnf -x509 -days 2 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 "

struct path {
    char text[256];
};

static struct path path_in(const char *dir, const char *name)
{
    struct path path;
    cr_assert_lt(snprintf(path.text, sizeof(path.text), "%s/%s", dir, name), (int)sizeof(path.text));
    return path;
}

int pki_shell(const char *dir, const char *line)
{
    struct path output = path_in(dir, "output");
    struct path errors = path_in(dir, "errors");
    return process_run(&(struct process_plan){.program = "/bin/sh",
                                              .arguments = LIST("-c", line),
                                              .directory = dir,
                                              .output = output.text,
                                              .log = errors.text});
}

static void make(const char *dir, const char *line)
{
    int code = pki_shell(dir, line);
    if (code != 0) {
        char *text = file_text(path_in(dir, "errors").text);
        cr_assert_fail("%s\nended with %d: %s", line, code, text);
    }
}

void pki_authority(const char *dir, const char *name)
{
    char line[512];
    int len = snprintf(line, sizeof(line),
                       REQUEST "-subj /CN=%s -keyout %s.key -out %s.pem "
                               "-addext basicConstraints=critical,CA:TRUE",
                       name, name, name);
    cr_assert_lt(len, (int)sizeof(line));
    make(dir, line);
}

void pki_certificate(const char *dir, const char *authority, const char *name, enum pki_use use,
                     const char *hosts, unsigned serial)
{
    char line[768];
    int len = snprintf(line, sizeof(line),
                       REQUEST "-subj /CN=%s -keyout %s.key -out %s.pem -CA %s.pem -CAkey %s.key "
                               "-set_serial %u -addext extendedKeyUsage=%sAuth -addext subjectAltName=%s",
                       name, name, name, authority, authority, serial,
                       use == PKI_SERVER ? "server" : "client", hosts);
    cr_assert_lt(len, (int)sizeof(line));
    make(dir, line);
}
