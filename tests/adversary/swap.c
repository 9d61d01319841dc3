/* Swaps each directory d<N> of the working directory with the link l<N> beside it, for ever: who comes in by a name ends up
 * elsewhere. Some 200 times a second, which a shell with mv reaches with a whole processor. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

static void swap(int number)
{
    char directory[16], link[16], aside[16];
    snprintf(directory, sizeof directory, "d%d", number);
    snprintf(link, sizeof link, "l%d", number);
    snprintf(aside, sizeof aside, "x%d", number);
    /* At once where the file system can do that, which NFS cannot. */
    if (renameat2(AT_FDCWD, directory, AT_FDCWD, link, RENAME_EXCHANGE) == 0)
        return;
    if (rename(directory, aside) == 0 && rename(link, directory) == 0)
        rename(aside, link);
}

int main(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    for (;;)
        for (int number = 1; number <= 16; number++) {
            swap(number);
            nanosleep(&pause, NULL);
        }
}
