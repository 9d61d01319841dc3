/*
 * What rsync meets on a SAN that adds an attribute of its own to every file: it is always there, and stays.
 *
 * Build: cc -shared -fPIC -DLABEL='"security.selinux"' -o labelled.so labelled.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include <sys/xattr.h>

static const char value[] = "a value of the SAN, as long as one of SELinux usually is";

static int is_ours(const char *name)
{
	return strcmp(name, LABEL) == 0;
}

static ssize_t give(void *to, size_t size)
{
	if (size && size < sizeof(value)) {
		errno = ERANGE;
		return -1;
	}
	if (size)
		memcpy(to, value, sizeof(value));
	return sizeof(value);
}

/* The names that are there without ours, where somebody has set it, and ours at the end. */
static ssize_t with_ours(char *list, size_t size, ssize_t found)
{
	ssize_t kept = 0, at, length;

	if (found < 0)
		return found;
	if (!size)
		return found + (ssize_t)sizeof(LABEL);
	for (at = 0; at < found; at += length) {
		length = (ssize_t)strlen(list + at) + 1;
		if (!is_ours(list + at)) {
			memmove(list + kept, list + at, length);
			kept += length;
		}
	}
	if (kept + sizeof(LABEL) > size) {
		errno = ERANGE;
		return -1;
	}
	memcpy(list + kept, LABEL, sizeof(LABEL));
	return kept + (ssize_t)sizeof(LABEL);
}

static int refuse(void)
{
	errno = EACCES;
	return -1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ATTRIBUTES(prefix, type)                                                                       \
	ssize_t prefix##listxattr(type file, char *list, size_t size)                                  \
	{                                                                                              \
		return with_ours(list, size, NEXT(prefix##listxattr)(file, list, size));               \
	}                                                                                              \
	ssize_t prefix##getxattr(type file, const char *name, void *to, size_t size)                   \
	{                                                                                              \
		return is_ours(name) ? give(to, size) : NEXT(prefix##getxattr)(file, name, to, size);  \
	}                                                                                              \
	int prefix##removexattr(type file, const char *name)                                           \
	{                                                                                              \
		return is_ours(name) ? refuse() : NEXT(prefix##removexattr)(file, name);               \
	}

ATTRIBUTES(, const char *)
ATTRIBUTES(l, const char *)
ATTRIBUTES(f, int)
