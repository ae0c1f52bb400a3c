/*
 * cpu COMMAND ARGUMENT...: runs a command and prints the microseconds of CPU time that it took, with all that it waited for: the
 * scheduler's sum, exact to the microsecond, in which waiting for a busy machine does not count. What the kernel does later and
 * elsewhere (freeing a filter) is not in it. The command's own output is discarded; its exit status is handed on.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;

static long micros(struct timeval time)
{
	return time.tv_sec * 1000000L + time.tv_usec;
}

int main(int argc, char **argv)
{
	posix_spawn_file_actions_t actions;
	struct rusage used;
	pid_t pid;
	int status;

	if (argc < 2) {
		fprintf(stderr, "usage: cpu COMMAND ARGUMENT...\n");
		return 125;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	int error = posix_spawn(&pid, argv[1], &actions, NULL, argv + 1, environ);
	if (error) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(error));
		return 125;
	}
	if (wait4(pid, &status, 0, &used) < 0) {
		perror("wait4");
		return 125;
	}
	printf("%ld\n", micros(used.ru_utime) + micros(used.ru_stime));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
