// pki.h - certificates for tests, made by openssl(1): keys on P-256, valid for two days.
#ifndef SLUICE_TESTS_SUPPORT_PKI_H
#define SLUICE_TESTS_SUPPORT_PKI_H

enum pki_use { PKI_SERVER, PKI_CLIENT };

// Makes DIR/NAME.pem and DIR/NAME.key. A certificate is signed by DIR/AUTHORITY.pem, and is for `hosts`,
// written as in "DNS:localhost,IP:127.0.0.1". The directory exists. Main thread of a test only.
void pki_authority(const char *dir, const char *name);
void pki_certificate(const char *dir, const char *authority, const char *name, enum pki_use use,
                     const char *hosts, unsigned serial);

// Runs a line of shell in the directory and gives its exit code; its standard output goes to DIR/output, its
// standard error to the end of DIR/errors.
int pki_shell(const char *dir, const char *line);

#endif
