// What packets pay: a server and a client in two network namespaces, both on one processor.
//
//     packets CORE SERVER CLIENT KIND PORT ADDRESS TO MILLISECONDS
//
// SERVER and CLIENT are files of namespaces. The server listens at PORT of every address; the client
// goes to the port TO of ADDRESS, for so long. Prints a count, and the nanoseconds of processor time
// that both have used for it. KIND is
//
//     tcp, udp    a byte there and a byte back, one behind the other: transactions
//     connect     connections that the server closes at once, one behind the other: connections
//     1, 4, …     so many streams at once, from client to server: bytes
//
// On one processor the sender does the work of the whole way, so that time is what a packet costs,
// and it is the same whatever else the machine does.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what) do { if ((what) < 0) die(#what); } while (0)
#define WARM 48
#define BATCH 16 // a look at the clocks costs as much as a part of a packet
#define MOST_STREAMS 64

static char block[1 << 16];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long read_clock(clockid_t clock)
{
	struct timespec t;
	CHECK(clock_gettime(clock, &t));
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static clockid_t server_clock;

// What client and server have used of the processor.
static long long used(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID) + read_clock(server_clock);
}

static void enter(const char *path)
{
	int netns = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(netns);
	CHECK(setns(netns, CLONE_NEWNET));
	close(netns);
}

// One for both, and as much of it as can be had.
static void take_processor(int core)
{
	cpu_set_t only;
	CPU_ZERO(&only);
	CPU_SET(core, &only);
	CHECK(sched_setaffinity(0, sizeof only, &only));
	CHECK(setpriority(PRIO_PROCESS, 0, -20));
}

// --- addresses --------------------------------------------------------------------------------

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static union address destination;
static socklen_t size;

static void set_port(union address *of, int port)
{
	if (of->any.sa_family == AF_INET)
		of->v4.sin_port = htons(port);
	else
		of->v6.sin6_port = htons(port);
}

static void set_destination(const char *address, int port)
{
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	destination.any.sa_family = family;
	size = family == AF_INET ? sizeof destination.v4 : sizeof destination.v6;
	void *at = family == AF_INET ? (void *)&destination.v4.sin_addr
				     : (void *)&destination.v6.sin6_addr;
	if (inet_pton(family, address, at) != 1)
		die(address);
	set_port(&destination, port);
}

// A socket that gives up at last: a packet that is lost is a mistake of the setting.
static int new_socket(int type)
{
	struct timeval patience = {.tv_sec = 10};
	int one = 1, fd = socket(destination.any.sa_family, type | SOCK_CLOEXEC, 0);
	CHECK(fd);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
	if (type == SOCK_STREAM)
		CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
	return fd;
}

static int listener(int type, int port)
{
	union address any = {.any.sa_family = destination.any.sa_family};
	int fd = new_socket(type);
	set_port(&any, port);
	CHECK(bind(fd, &any.any, size));
	if (type == SOCK_STREAM)
		CHECK(listen(fd, 1024));
	return fd;
}

static int connected(int type)
{
	int fd = new_socket(type);
	CHECK(connect(fd, &destination.any, size));
	return fd;
}

static int accepted(int from)
{
	int one = 1, fd = accept4(from, NULL, NULL, SOCK_CLOEXEC);
	CHECK(fd);
	CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
	return fd;
}

// --- servers, each a process that ends with this one ------------------------------------------

static int child(void)
{
	int pid = fork();
	CHECK(pid);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	else if (clock_getcpuclockid(pid, &server_clock))
		die("clock_getcpuclockid");
	return !pid;
}

static void echo_stream(int from)
{
	int fd = accepted(from);
	while (recv(fd, block, 1, 0) == 1)
		if (send(fd, block, 1, MSG_NOSIGNAL) != 1)
			break;
	exit(0);
}

static void echo_datagrams(int fd)
{
	union address who;
	for (;;) {
		socklen_t of = sizeof who;
		if (recvfrom(fd, block, 1, 0, &who.any, &of) == 1)
			sendto(fd, block, 1, 0, &who.any, of);
	}
}

static void close_all(int from)
{
	for (;;)
		close(accepted(from));
}

static void swallow(int from, long long *count)
{
	int fd = accepted(from);
	for (ssize_t got; (got = recv(fd, block, sizeof block, 0)) != 0; *count += got)
		CHECK(got);
	exit(0);
}

// --- clients ----------------------------------------------------------------------------------

static void tell(long long count, long long nanoseconds)
{
	printf("%lld %lld\n", count, nanoseconds);
}

static void transact(int fd, long long length)
{
	long long begin = used(), count = -WARM, at = begin;
	while (at - begin < length) {
		if (send(fd, block, 1, 0) != 1 || recv(fd, block, 1, 0) != 1)
			die("transaction");
		if (++count % BATCH)
			continue;
		at = used();
		if (!count)
			begin = at;
	}
	tell(count, at - begin);
}

static void make_connections(long long length)
{
	struct linger reset = {.l_onoff = 1}; // none waits for stragglers with its port
	long long begin = used(), count = -WARM, at = begin;
	while (at - begin < length) {
		int fd = connected(SOCK_STREAM);
		if (recv(fd, block, 1, 0) != 0)
			die("connection");
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		close(fd);
		if (++count % BATCH)
			continue;
		at = used();
		if (!count)
			begin = at;
	}
	tell(count, at - begin);
}

static void stream(int from, int streams, long long length)
{
	int sockets[MOST_STREAMS], gate[2];
	long long sum = 0, *counts = mmap(NULL, sizeof *counts * MOST_STREAMS, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		die("mmap");
	for (int i = 0; i < streams; i++)
		if (child())
			swallow(from, counts + i);
	for (int i = 0; i < streams; i++)
		sockets[i] = connected(SOCK_STREAM);
	CHECK(pipe(gate));
	for (int i = 0; i < streams; i++)
		if (child()) {
			for (int j = 0; j < streams; j++)
				if (j != i)
					close(sockets[j]);
			close(gate[1]);
			CHECK(read(gate[0], block, 1)); // all begin when its other end is closed
			long long start = read_clock(CLOCK_MONOTONIC);
			while (read_clock(CLOCK_MONOTONIC) - start < length)
				CHECK(send(sockets[i], block, sizeof block, MSG_NOSIGNAL));
			exit(0);
		}
	for (int i = 0; i < streams; i++)
		close(sockets[i]);
	close(gate[1]);
	for (int status; wait(&status) > 0;)
		if (status)
			exit(1);
	struct rusage of;
	CHECK(getrusage(RUSAGE_CHILDREN, &of));
	for (int i = 0; i < streams; i++)
		sum += counts[i];
	tell(sum, (of.ru_utime.tv_sec + of.ru_stime.tv_sec) * 1000000000LL +
			  (of.ru_utime.tv_usec + of.ru_stime.tv_usec) * 1000LL);
}

int main(int count, char **argument)
{
	if (count != 9)
		return 2;
	const char *kind = argument[4];
	int is_udp = !strcmp(kind, "udp"), streams = atoi(kind), port = atoi(argument[5]);
	long long length = atoll(argument[8]) * 1000000;

	set_destination(argument[6], atoi(argument[7]));
	take_processor(atoi(argument[1]));
	enter(argument[2]);
	int served = listener(is_udp ? SOCK_DGRAM : SOCK_STREAM, port);
	enter(argument[3]);
	if (streams > 0 && streams <= MOST_STREAMS) {
		stream(served, streams, length);
	} else if (!strcmp(kind, "tcp") || is_udp) {
		if (child())
			is_udp ? echo_datagrams(served) : echo_stream(served);
		transact(connected(is_udp ? SOCK_DGRAM : SOCK_STREAM), length);
	} else if (!strcmp(kind, "connect")) {
		if (child())
			close_all(served);
		make_connections(length);
	} else {
		return 2;
	}
	return 0;
}
