// A process that sleeps, in a network namespace as runc leaves it to whoever gives it its network:
// new, and with the loopback up.

#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

// Its pid, or -1. It ends with the process that calls this.
static int sleeper(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0 || unshare(CLONE_NEWNET))
		return -1;
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int pid = any < 0 || ioctl(any, SIOCSIFFLAGS, &lo) ? -1 : fork();
	close(any);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(0);
		close(1);
		for (;;)
			pause();
	}
	if (setns(home, CLONE_NEWNET))
		return -1;
	close(home);
	return pid;
}
