// Watches of etcd, as the hosts of a cluster have them, by its JSON gateway.
//
//     watches COUNT PORT KEY END MARK
//
// Each of COUNT connections to 127.0.0.1 watches the keys from KEY on and before END; both are
// base64. MARK is the base64 of how the keys begin of which it is told when they come; what follows
// it there is eight characters that tell one mark from others. Each line of the standard input is
// answered with a line: the bytes that came so far, the pieces in which they came, and how many
// connections wait to be read; then a line for each mark that came since the last question: those
// eight characters, and when it came first on each connection, by the monotonic clock, in
// microseconds; then an empty line. It ends with its standard input, or when a watch does.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NAME 8
#define KEPT 128 // of what came before: a mark may come in two pieces
#define PIECE (256 << 10)
#define MARKS 512

struct watch {
	int fd, kept;
	char tail[KEPT];
};

struct mark {
	char name[NAME];
	int count, told;
	long long *when; // of each connection; 0: not yet
};

static struct watch *watches;
static struct mark marks[MARKS];
static int count, known;
static long long bytes, pieces;

static int die(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static struct mark *mark_of(const char *name)
{
	for (int i = known - 1; i >= 0; i--)
		if (!memcmp(marks[i].name, name, NAME))
			return &marks[i];
	struct mark *one = &marks[known % MARKS];
	if (known++ >= MARKS) {
		fputs("too many marks\n", stderr);
		exit(1);
	}
	memcpy(one->name, name, NAME);
	one->when = calloc(count, sizeof *one->when);
	return one;
}

static void take(int at, const char *prefix, int length)
{
	static char buffer[KEPT + PIECE];
	struct watch *one = &watches[at];
	memcpy(buffer, one->tail, one->kept);
	ssize_t got = read(one->fd, buffer + one->kept, PIECE);
	if (got <= 0)
		die("a watch has ended");
	bytes += got;
	pieces++;
	char *from = buffer, *end = buffer + one->kept + got;
	while ((from = memmem(from, end - from, prefix, length)) && end - from >= length + NAME) {
		struct mark *mark = mark_of(from + length);
		if (!mark->when[at]) {
			mark->when[at] = now();
			mark->count++;
		}
		from += length + NAME;
	}
	one->kept = end - buffer < KEPT ? end - buffer : KEPT;
	memcpy(one->tail, end - one->kept, one->kept);
}

static void tell(void)
{
	int waiting = 0;
	for (int i = 0; i < count; i++) {
		int left = 0;
		ioctl(watches[i].fd, FIONREAD, &left);
		waiting += left > 0;
	}
	printf("%lld %lld %d\n", bytes, pieces, waiting);
	for (int i = 0; i < known; i++) {
		if (marks[i].count == marks[i].told)
			continue;
		printf("%.*s", NAME, marks[i].name);
		for (int n = 0; n < count; n++) {
			if (marks[i].when[n] > 0) {
				printf(" %lld", marks[i].when[n]);
				marks[i].when[n] = -1; // it was told
			}
		}
		putchar('\n');
		marks[i].told = marks[i].count;
	}
	putchar('\n');
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	count = atoi(argv[1]);
	watches = calloc(count, sizeof *watches);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int poll = epoll_create1(0);
	char body[1024], request[2048];
	int length = snprintf(body, sizeof body,
			      "{\"create_request\":{\"key\":\"%s\",\"range_end\":\"%s\","
			      "\"progress_notify\":true,\"fragment\":true}}", argv[3], argv[4]);
	int size = snprintf(request, sizeof request,
			    "POST /v3/watch HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n%s",
			    length, body);
	for (int i = 0; i < count; i++) {
		int fd = watches[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
			die("connect");
		if (write(fd, request, size) != size)
			die("write");
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
		epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
	}
	struct epoll_event asked = {.events = EPOLLIN, .data.u32 = count};
	epoll_ctl(poll, EPOLL_CTL_ADD, 0, &asked);
	for (;;) {
		struct epoll_event events[64];
		int found = epoll_wait(poll, events, 64, -1);
		for (int i = 0; i < found; i++) {
			if (events[i].data.u32 < (unsigned)count) {
				take(events[i].data.u32, argv[5], strlen(argv[5]));
				continue;
			}
			char line[256];
			if (read(0, line, sizeof line) <= 0)
				return 0;
			tell();
		}
	}
}
