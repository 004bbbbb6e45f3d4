// container.h - from an embedded member back to the object that holds it.
#ifndef SLUICE_COMMON_CONTAINER_H
#define SLUICE_COMMON_CONTAINER_H

#include <stddef.h>

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
