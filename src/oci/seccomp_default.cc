// What a container may call by default. The idea of the list: whatever an ordinary program needs, and what acts only on
// things the container owns. Left out, with the reason:
//   io_uring_*            its operations go around this filter, and it was a row of kernel exploits
//   userfaultfd           stops the kernel at a chosen instruction: what race exploits need
//   keyctl, add_key, request_key          the keyrings know no namespaces
//   kexec_*, *_module, swapon, swapoff, reboot, settimeofday, acct, iopl, ioperm    the machine's, not the container's
//   mount family, setns, unshare, bpf, perf_event_open, fanotify_init, quotactl     with CAP_SYS_ADMIN (or its parts)
//   open_by_handle_at     opens files outside the mount namespace (the "shocker" exploit)
//   nfsservctl, uselib, sysfs, _sysctl, ustat, vm86, lookup_dcookie                 dead interfaces
// The names follow the kernel's tables (arch/*/entry/syscalls); those unknown to an older libseccomp are skipped by the
// OCI runtimes.
#include "oci/seccomp_default.h"

namespace crisp::oci::seccomp_default {

const std::string_view kAllowed =
    // files and directories
    "access faccessat faccessat2 open openat openat2 creat close close_range read readv pread64 preadv preadv2 write "
    "writev pwrite64 pwritev pwritev2 lseek _llseek stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx "
    "statfs statfs64 fstatfs fstatfs64 statmount listmount "
    "truncate truncate64 ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 readahead "
    "chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 umask "
    "link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2 "
    "mkdir mkdirat rmdir mknod mknodat getdents getdents64 getcwd chdir fchdir "
    "utime utimes utimensat utimensat_time64 futimesat "
    "getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat "
    "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_getattr "
    "file_setattr name_to_handle_at "
    "dup dup2 dup3 fcntl fcntl64 flock ioctl sync syncfs fsync fdatasync sync_file_range cachestat "
    "copy_file_range sendfile sendfile64 splice tee vmsplice pipe pipe2 "
    "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark "
    // waiting
    "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 "
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 "
    "eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
    "timerfd_settime64 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64 "
    // memory
    "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall membarrier "
    "memfd_create memfd_secret map_shadow_stack mseal pkey_alloc pkey_free pkey_mprotect remap_file_pages "
    "process_mrelease "
    // processes, threads, scheduling
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp setpgid "
    "getsid setsid set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area rseq prctl "
    "arch_prctl futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue restart_syscall "
    "pidfd_open pidfd_send_signal kill tkill tgkill "
    "sched_yield sched_get_priority_max sched_get_priority_min sched_getaffinity sched_setaffinity sched_getattr "
    "sched_setattr sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getcpu "
    "getrlimit ugetrlimit setrlimit prlimit64 getrusage times seccomp "
    "ptrace process_vm_readv process_vm_writev "  // kernels since 4.8 run the filter after ptrace has its say
    // signals
    "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn "
    "pause alarm getitimer setitimer "
    // who we are
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 "
    "setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid "
    "setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 getgroups getgroups32 setgroups setgroups32 capget capset "
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr lsm_set_self_attr "
    "lsm_list_modules uname sysinfo getrandom "
    // time
    "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep "
    "clock_nanosleep_time64 nanosleep clock_adjtime clock_adjtime64 adjtimex timer_create timer_delete "
    "timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
    // sockets (socket(2) itself has a rule of its own)
    "socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt "
    "send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 "
    // System V and POSIX ipc: the container's own namespace
    "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget "
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink";

static constexpr WithCapability kCapabilityRules[] = {
    {"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
    {"CAP_SYS_ADMIN",
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount "
     "open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount "
     "umount2 unshare"},
    {"CAP_SYS_BOOT", "reboot"},
    {"CAP_SYS_CHROOT", "chroot"},
    {"CAP_SYS_MODULE", "delete_module init_module finit_module"},
    {"CAP_SYS_PACCT", "acct"},
    {"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"},
    {"CAP_SYS_RAWIO", "iopl ioperm"},
    {"CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"},
    {"CAP_SYS_TTY_CONFIG", "vhangup"},
    {"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {"CAP_SYSLOG", "syslog"},
    {"CAP_BPF", "bpf"},
    {"CAP_PERFMON", "perf_event_open"},
};
const std::span<const WithCapability> kWithCapability(kCapabilityRules);

static constexpr OnArch kArchRules[] = {
    {"amd64 386", "modify_ldt"},
    {"arm arm64", "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"},
    {"ppc64le", "sync_file_range2 swapcontext"},
    {"s390x", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"},
    {"riscv64", "riscv_flush_icache riscv_hwprobe"},
};
const std::span<const OnArch> kOnArch(kArchRules);

}  // namespace crisp::oci::seccomp_default
