// A container's program: does nothing but say whether it had its network by its first instruction.
//
//     first [FILE]
//
// Exits 0 if there is a way to an address of the world, and anything in FILE; 7 if not. Static, for it
// is all that its container's root file system has.

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **argument)
{
	struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(53)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, "192.0.2.1", &far.sin_addr);
	if (connect(fd, (struct sockaddr *)&far, sizeof far))
		return 7;
	char any;
	return count == 2 && read(open(argument[1], O_RDONLY), &any, 1) != 1 ? 7 : 0;
}
