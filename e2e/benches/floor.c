/* What the kernel itself charges for one container: the system calls that no engine can do without, and nothing else.
 *
 *   floor ROOTFS WORK      prints the milliseconds of one container, from its first directory to its last
 *
 * New pid, mount, network, ipc, uts and cgroup namespaces; an overlay of ROOTFS and a layer of its own; /proc, /sys, /dev with its
 * nodes, devpts, shm, mqueue; a cpu, memory and pids limit; pivot_root; exec of /bin/true. No configuration, no filter of system
 * calls, no capabilities, no user namespace, no address, no supervisor.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void must(int result, const char *what) {
  if (result < 0) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
  }
}

static void put(const char *dir, const char *name, const char *value) {
  char path[600];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  int file = open(path, O_WRONLY | O_CLOEXEC);
  must(file, path);
  must((int)write(file, value, strlen(value)), path);
  close(file);
}

struct group { const char *hierarchy, *file, *value; };
/* One hierarchy each on v1; all in one directory on v2. */
static const struct group V1[] = {{"/cpu", "cpu.cfs_quota_us", "100000"}, {"/memory", "memory.limit_in_bytes", "104857600"}, {"/pids", "pids.max", "1000"}};
static const struct group V2[] = {{"", "cpu.max", "100000 100000"}, {"", "memory.max", "104857600"}, {"", "pids.max", "1000"}};

static void become(const char *rootfs, const char *work) {
  static const struct { const char *name; unsigned minor; } NODES[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};
  const unsigned long quiet = MS_NOSUID | MS_NOEXEC | MS_NODEV;
  char options[1800], path[64];
  must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make mounts private");
  must(chdir(work), work);
  snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work", rootfs);
  must(mount("overlay", "root", "overlay", 0, options), "mount overlay");
  must(chdir("root"), "root");
  must(mount("proc", "proc", "proc", quiet, NULL), "mount proc");
  must(mount("sysfs", "sys", "sysfs", quiet | MS_RDONLY, NULL), "mount sysfs");
  must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"), "mount dev");
  must(mkdir("dev/pts", 0755) | mkdir("dev/shm", 0755) | mkdir("dev/mqueue", 0755), "mkdir in dev");
  must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "mount devpts");
  must(mount("shm", "dev/shm", "tmpfs", quiet, "mode=1777,size=65536k"), "mount shm");
  must(mount("mqueue", "dev/mqueue", "mqueue", quiet, NULL), "mount mqueue");
  for (size_t i = 0; i < sizeof NODES / sizeof *NODES; i++) {
    snprintf(path, sizeof path, "dev/%s", NODES[i].name);
    must(mknod(path, S_IFCHR | 0666, makedev(1, NODES[i].minor)), path);
  }
  must(mknod("dev/tty", S_IFCHR | 0666, makedev(5, 0)), "dev/tty");
  must((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
  must(umount2(".", MNT_DETACH), "detach the old root");
  must(chdir("/"), "/");
  must(sethostname("floor", 5), "sethostname");
  execl("/bin/true", "true", (char *)NULL);
  must(-1, "exec /bin/true");
}

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
  if (argc != 3) { fprintf(stderr, "usage: floor ROOTFS WORK\n"); return 2; }
  const int unified = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
  const struct group *groups = unified ? V2 : V1;
  char work[400], dirs[3][300], path[500];
  double begun = milliseconds();

  snprintf(work, sizeof work, "%s/%d", argv[2], (int)getpid());
  must(mkdir(work, 0755), work);
  static const char *const PARTS[] = {"upper", "work", "root"};
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", work, PARTS[i]);
    must(mkdir(path, 0755), path);
  }
  for (int i = 0; i < 3; i++) {
    snprintf(dirs[i], sizeof dirs[i], "/sys/fs/cgroup%s/tinyd-floor-%d", groups[i].hierarchy, (int)getpid());
    if (mkdir(dirs[i], 0755) < 0 && !(unified && errno == EEXIST)) must(-1, dirs[i]);
    put(dirs[i], groups[i].file, groups[i].value);
  }
  struct clone_args clone = {0};
  clone.flags = CLONE_VFORK | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
  clone.exit_signal = SIGCHLD;
  if (unified) {
    int group = open(dirs[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(group, dirs[0]);
    clone.cgroup = (uint64_t)group;
    clone.flags |= 0x200000000ULL; /* CLONE_INTO_CGROUP, which older headers lack */
  }
  long child = syscall(SYS_clone3, &clone, sizeof clone);
  must((int)child, "clone3");
  if (child == 0) {
    for (int i = 0; !unified && i < 3; i++) put(dirs[i], "cgroup.procs", "0");
    become(argv[1], work);
  }
  int status = 0;
  must(waitpid((pid_t)child, &status, 0), "wait");
  for (int i = 0; i < (unified ? 1 : 3); i++) must(rmdir(dirs[i]), dirs[i]);
  double took = milliseconds() - begun;
  if (status != 0) return 1;
  printf("%.3f\n", took);
  return 0;
}
