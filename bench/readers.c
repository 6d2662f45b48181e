// Readers of the events socket, all in one process.
//
//     readers SOCKET FAST SLOW NEVER
//
// FAST of them read whatever comes, SLOW read a kilobyte a second, and NEVER do not read at all.
// Prints "ready" and the nanoseconds since the first connect once each fast one has the whole state,
// and again for each line "more" of standard input, which makes all fast ones connect anew. They end
// when standard input does.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 2048, SLOWLY = 100 /* bytes, ten times a second */ };

static const char READY[] = "{\"type\":\"ready\"";
static struct pollfd polled[1 + MOST];
static size_t matched[1 + MOST]; // how much of READY the last bytes of each are; sizeof if it was there

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int connected(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strncpy(name.sun_path, path, sizeof name.sun_path - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name)) {
		perror("readers: connect");
		exit(1);
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

// Whether READY has begun in what this reader has read by now.
static int look(size_t *at, const char *part, ssize_t size)
{
	size_t whole = sizeof READY - 1;
	for (ssize_t i = 0; i < size && *at < whole; i++)
		*at = part[i] == READY[*at] ? *at + 1 : part[i] == READY[0];
	return *at >= whole;
}

int main(int count, char **argument)
{
	static char part[1 << 16];
	if (count != 5)
		return 2;
	int fast = atoi(argument[2]), slow = atoi(argument[3]), never = atoi(argument[4]);
	if (fast + slow + never > MOST)
		return 2;
	setlinebuf(stdout);
	int waiting = fast;
	long long began = now(), slept = began;
	polled[0] = (struct pollfd){.fd = 0, .events = POLLIN};
	for (int i = 1; i <= fast + slow + never; i++)
		polled[i] = (struct pollfd){.fd = connected(argument[1]), .events = i <= fast ? POLLIN : 0};
	if (!fast)
		printf("ready 0\n");
	for (;;) {
		if (poll(polled, 1 + fast, slow ? 100 : -1) < 0)
			return 1;
		if (polled[0].revents) {
			if (read(0, part, sizeof part) <= 0)
				return 0;
			began = now();
			waiting = fast;
			for (int i = 1; i <= fast; i++) {
				close(polled[i].fd);
				polled[i].fd = connected(argument[1]);
				polled[i].revents = 0;
				matched[i] = 0;
			}
			continue;
		}
		for (int i = 1; i <= fast; i++) {
			if (!polled[i].revents)
				continue;
			ssize_t size = read(polled[i].fd, part, sizeof part);
			if (size < 0 && errno == EAGAIN)
				continue;
			if (size <= 0) {
				fprintf(stderr, "readers: the service has closed a connection\n");
				return 1;
			}
			if (matched[i] < sizeof READY - 1 && look(&matched[i], part, size) && !--waiting)
				printf("ready %lld\n", now() - began);
		}
		if (slow && now() - slept > 100000000LL) {
			slept = now();
			for (int i = fast + 1; i <= fast + slow; i++)
				if (read(polled[i].fd, part, SLOWLY) == 0)
					return 1;
		}
	}
}
