#ifndef CMBEDTLS_H
#define CMBEDTLS_H
#include <mbedtls/version.h>
#endif
