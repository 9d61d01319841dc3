/* init: runs /etc/rc.d/rc, reaps, and shuts down as busybox init does when busybox's halt, poweroff or reboot tell
 * it (SIGUSR1, SIGUSR2, SIGTERM), but without its two fixed seconds: it goes on as soon as nothing runs any more. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define RC "/etc/rc.d/rc"
/* Between SIGTERM and SIGKILL. It is only spent by what does not end, so it can be long: on a busy machine a write may
 * stand for seconds in the file system's journal, and who is killed meanwhile leaves its last record unwritten. */
#define GRACE_MS 30000
/* For the halt that told us, to end by itself. vzctl takes a halt that a signal ended for one that failed, and then kills
 * the container at once; where rc scripts run before the signals, as on a whole distribution, that never happens. */
#define MESSENGER_MS 2000

static pid_t start_rc(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        execl(RC, RC, "start", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Reap what ended; whether any process is left besides init. */
static int others_left(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return kill(-1, 0) == 0 || errno != ESRCH;
}

static void wait_for_others(int milliseconds)
{
    struct timespec tick = {0, 5000000};

    for (int spent = 0; spent < milliseconds && others_left(); spent += 5)
        nanosleep(&tick, NULL);
}

/* The container's own file system; sync() would write out what every container on the machine has. */
static void sync_root(void)
{
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (root >= 0) {
        syncfs(root);
        close(root);
    }
}

static void wait_for_messenger(pid_t messenger)
{
    struct timespec tick = {0, 2000000};

    for (int spent = 0; messenger > 0 && spent < MESSENGER_MS && kill(messenger, 0) == 0; spent += 2)
        nanosleep(&tick, NULL);
}

static void shut_down(int how, pid_t messenger)
{
    wait_for_messenger(messenger);
    kill(-1, SIGTERM);
    kill(-1, SIGCONT);
    wait_for_others(GRACE_MS);
    kill(-1, SIGKILL);
    wait_for_others(1000);
    sync_root();
    reboot(how);
    /* Not reached where reboot(2) ends the process id namespace. */
    _exit(0);
}

int init_main(int argc, char **argv)
{
    sigset_t all;

    (void)argc;
    (void)argv;
    if (getpid() != 1) {
        fprintf(stderr, "init: must be run as PID 1\n");
        return 1;
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    setsid();
    start_rc();
    for (;;) {
        siginfo_t told = {0};

        switch (sigwaitinfo(&all, &told)) {
        case SIGUSR1:
            shut_down(RB_HALT_SYSTEM, told.si_pid);
            break;
        case SIGUSR2:
            shut_down(RB_POWER_OFF, told.si_pid);
            break;
        case SIGTERM:
        case SIGINT:
            shut_down(RB_AUTOBOOT, told.si_pid);
            break;
        default:
            while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        }
    }
}
