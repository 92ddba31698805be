#ifndef CPLATFORM_H
#define CPLATFORM_H
#include <unistd.h>
#endif
