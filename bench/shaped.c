// What a limit of bandwidth lets pass, and how long a packet then waits.
//
//     shaped SERVER CLIENT KIND PORT ADDRESS TO BITS WARM MILLISECONDS
//
// SERVER and CLIENT are files of namespaces. The client sends to the port TO of ADDRESS as much as it
// can by TCP, or a fifth more than BITS a second by UDP, as KIND says; the server has PORT of every
// address. At the same time it sends a probe by UDP every 100 ms, which comes back. Prints, for
// MILLISECONDS after the first WARM, the bytes that arrived, the nanoseconds that it took, the probes
// that were answered, and those that were not; then the median and the longest time of an
// answer in microseconds.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what) do { if ((what) < 0) die(#what); } while (0)
#define MILLISECOND 1000000LL
#define PROBE 16
#define PAUSE (100 * MILLISECOND)
#define PATIENCE 2000 // milliseconds for a probe
#define MOST 100000
#define MANY_BITS 300e6 // from here on, UDP is handed over in pieces of many datagrams
#define PIECES 16

static char block[1 << 16];
static long long times[MOST];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;
	CHECK(clock_gettime(CLOCK_MONOTONIC, &t));
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void rest(long long nanoseconds)
{
	struct timespec t = {nanoseconds / 1000000000LL, nanoseconds % 1000000000LL};
	nanosleep(&t, NULL);
}

static void enter(const char *path)
{
	int netns = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(netns);
	CHECK(setns(netns, CLONE_NEWNET));
	close(netns);
}

// A process that ends with this one.
static int forked(void)
{
	int pid = fork();
	CHECK(pid);
	if (!pid)
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
	return pid;
}

static struct sockaddr_in6 address_of(const char *text, int port)
{
	// IPv4 is mapped, so that one kind of socket does for both.
	struct sockaddr_in6 of = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	char mapped[64];
	snprintf(mapped, sizeof mapped, "%s%s", strchr(text, ':') ? "" : "::ffff:", text);
	if (inet_pton(AF_INET6, mapped, &of.sin6_addr) != 1)
		die(text);
	return of;
}

static int made(int kind)
{
	int found = socket(AF_INET6, kind | SOCK_CLOEXEC, 0), off = 0, room = 8 << 20;
	CHECK(found);
	CHECK(setsockopt(found, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
	if (kind == SOCK_DGRAM)
		CHECK(setsockopt(found, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room));
	return found;
}

static void serve(int listener, int datagrams, volatile long long *arrived)
{
	struct pollfd of[] = {{listener, POLLIN, 0}, {datagrams, POLLIN, 0}};
	for (;;) {
		CHECK(poll(of, 2, -1));
		if (of[0].revents && of[0].fd == listener) {
			of[0].fd = accept(listener, NULL, NULL);
			CHECK(of[0].fd);
		} else if (of[0].revents) {
			ssize_t got = recv(of[0].fd, block, sizeof block, 0);
			if (got <= 0)
				of[0].fd = -1;
			else
				*arrived += got;
		}
		for (int n = 0; of[1].revents && n < 64; n++) {
			struct sockaddr_in6 from;
			socklen_t size = sizeof from;
			ssize_t got = recvfrom(datagrams, block, sizeof block, MSG_DONTWAIT,
					       (struct sockaddr *)&from, &size);
			if (got < 0)
				break;
			if (got == PROBE)
				sendto(datagrams, block, PROBE, 0, (struct sockaddr *)&from, size);
			else
				*arrived += got;
		}
	}
}

static void send_stream(struct sockaddr_in6 *to)
{
	int stream = made(SOCK_STREAM);
	CHECK(connect(stream, (struct sockaddr *)to, sizeof *to));
	while (send(stream, block, sizeof block, MSG_NOSIGNAL) > 0)
		;
	exit(0);
}

static void send_datagrams(struct sockaddr_in6 *to, double bits)
{
	int datagrams = made(SOCK_DGRAM), room = 1 << 20;
	int size = IN6_IS_ADDR_V4MAPPED(&to->sin6_addr) ? 1472 : 1452, piece = size;
	CHECK(setsockopt(datagrams, SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
	CHECK(connect(datagrams, (struct sockaddr *)to, sizeof *to));
	if (bits >= MANY_BITS) {
		CHECK(setsockopt(datagrams, SOL_UDP, UDP_SEGMENT, &size, sizeof size));
		piece = size * PIECES;
	}
	long long begin = now(), sent = 0;
	for (;;) {
		while (sent * 8 < bits * 1.2 * ((now() - begin) * 1e-9)) {
			send(datagrams, block, piece, 0);
			sent += piece;
		}
		rest(200000);
	}
}

// The nanoseconds until a probe has come back; -1 if it does not.
static long long probe(int datagrams, long long number)
{
	long long begin = now(), message[2] = {number, begin}, answer[2];
	if (send(datagrams, message, PROBE, 0) != PROBE)
		return -1;
	struct pollfd of = {datagrams, POLLIN, 0};
	while (poll(&of, 1, PATIENCE) > 0)
		if (recv(datagrams, answer, PROBE, 0) == PROBE && answer[0] == number)
			return now() - begin;
	return -1;
}

static int compare(const void *one, const void *other)
{
	long long a = *(const long long *)one, b = *(const long long *)other;
	return (a > b) - (a < b);
}

int main(int count, char **argument)
{
	if (count != 10)
		return 2;
	int tcp = !strcmp(argument[3], "tcp"), port = atoi(argument[4]);
	double bits = atof(argument[7]);
	long long warm = atoll(argument[8]) * MILLISECOND, length = atoll(argument[9]) * MILLISECOND;
	volatile long long *arrived =
		mmap(NULL, sizeof *arrived, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	enter(argument[1]);
	int listener = made(SOCK_STREAM), datagrams = made(SOCK_DGRAM), on = 1;
	struct sockaddr_in6 here = address_of("::", port), to = address_of(argument[5], atoi(argument[6]));
	CHECK(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	CHECK(bind(listener, (struct sockaddr *)&here, sizeof here));
	CHECK(listen(listener, 1));
	CHECK(bind(datagrams, (struct sockaddr *)&here, sizeof here));
	if (!forked())
		serve(listener, datagrams, arrived);

	enter(argument[2]);
	if (!forked())
		tcp ? send_stream(&to) : send_datagrams(&to, bits);
	int prober = made(SOCK_DGRAM), answered = 0, lost = 0;
	CHECK(connect(prober, (struct sockaddr *)&to, sizeof to));

	long long begin = now(), from = 0, before = 0;
	for (long long number = 0; !from || now() - from < length; number++) {
		if (!from && now() - begin >= warm) {
			before = *arrived;
			from = now();
		}
		long long took = probe(prober, number);
		if (from && took < 0)
			lost++;
		else if (from && answered < MOST)
			times[answered++] = took;
		rest(PAUSE);
	}
	long long bytes = *arrived - before, nanoseconds = now() - from;
	qsort(times, answered, sizeof *times, compare);
	printf("%lld %lld %d %d %lld %lld\n", bytes, nanoseconds, answered, lost,
	       answered ? times[answered / 2] / 1000 : 0, answered ? times[answered - 1] / 1000 : 0);
	return 0;
}
