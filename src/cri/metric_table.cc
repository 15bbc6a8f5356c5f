#include "cri/metric_table.h"

namespace crisp::cri {
namespace {

// In the order of the enumeration, which is that of the names.
constexpr MetricInfo kTable[] = {
    {"container_blkio_device_usage_total",
     true,
     "Bytes read from and written to block devices.",
     {"device", "major", "minor", "operation"}},
    {"container_cpu_cfs_periods_total", true, "Periods of the CPU bandwidth controller that have elapsed.", {}},
    {"container_cpu_cfs_throttled_periods_total", true, "Periods in which the container was throttled.", {}},
    {"container_cpu_cfs_throttled_seconds_total", true, "Seconds for which the container was throttled.", {}},
    {"container_cpu_system_seconds_total", true, "Seconds of processor time used in the kernel.", {}},
    {"container_cpu_usage_seconds_total", true, "Seconds of processor time used.", {"cpu"}},
    {"container_cpu_user_seconds_total", true, "Seconds of processor time used in user mode.", {}},
    {"container_file_descriptors", false, "Open file descriptors of the container's processes.", {}},
    {"container_fs_inodes_free", false, "Free inodes of the file system that holds the writable layer.", {"device"}},
    {"container_fs_inodes_total", false, "Inodes of the file system that holds the writable layer.", {"device"}},
    {"container_fs_limit_bytes", false, "Size of the file system that holds the writable layer.", {"device"}},
    {"container_fs_reads_bytes_total", true, "Bytes read from the device.", {"device"}},
    {"container_fs_reads_total", true, "Reads from the device.", {"device"}},
    {"container_fs_usage_bytes", false, "Bytes that the writable layer takes.", {"device"}},
    {"container_fs_writes_bytes_total", true, "Bytes written to the device.", {"device"}},
    {"container_fs_writes_total", true, "Writes to the device.", {"device"}},
    {"container_hugetlb_max_usage_bytes", false, "Most huge pages used so far, in bytes.", {"pagesize"}},
    {"container_hugetlb_usage_bytes", false, "Huge pages used, in bytes.", {"pagesize"}},
    {"container_last_seen", false, "When the container was last seen, in seconds since the epoch.", {}},
    {"container_memory_cache", false, "Bytes of page cache.", {}},
    {"container_memory_failcnt", true, "Times that memory usage hit its limit.", {}},
    {"container_memory_failures_total", true, "Page faults.", {"failure_type", "scope"}},
    {"container_memory_kernel_usage", false, "Bytes of kernel memory.", {}},
    {"container_memory_mapped_file", false, "Bytes of files mapped into memory.", {}},
    {"container_memory_max_usage_bytes", false, "Most memory used so far, in bytes.", {}},
    {"container_memory_rss", false, "Bytes of anonymous memory.", {}},
    {"container_memory_swap", false, "Bytes of swap used.", {}},
    {"container_memory_usage_bytes", false, "Memory used, in bytes, of every kind.", {}},
    {"container_memory_working_set_bytes", false, "Memory used without the inactive file cache, in bytes.", {}},
    {"container_network_receive_bytes_total", true, "Bytes received.", {"interface"}},
    {"container_network_receive_errors_total", true, "Errors while receiving.", {"interface"}},
    {"container_network_receive_packets_dropped_total", true, "Packets dropped while receiving.", {"interface"}},
    {"container_network_receive_packets_total", true, "Packets received.", {"interface"}},
    {"container_network_transmit_bytes_total", true, "Bytes sent.", {"interface"}},
    {"container_network_transmit_errors_total", true, "Errors while sending.", {"interface"}},
    {"container_network_transmit_packets_dropped_total", true, "Packets dropped while sending.", {"interface"}},
    {"container_network_transmit_packets_total", true, "Packets sent.", {"interface"}},
    {"container_oom_events_total", true, "Processes that the kernel killed for want of memory.", {}},
    {"container_pressure_cpu_stalled_seconds_total", true, "Seconds in which no task got a processor.", {}},
    {"container_pressure_cpu_waiting_seconds_total", true, "Seconds in which a task waited for a processor.", {}},
    {"container_pressure_io_stalled_seconds_total", true, "Seconds in which all tasks waited for I/O.", {}},
    {"container_pressure_io_waiting_seconds_total", true, "Seconds in which a task waited for I/O.", {}},
    {"container_pressure_memory_stalled_seconds_total", true, "Seconds in which all tasks waited for memory.", {}},
    {"container_pressure_memory_waiting_seconds_total", true, "Seconds in which a task waited for memory.", {}},
    {"container_processes", false, "Processes in the container.", {}},
    {"container_sockets", false, "Open sockets of the container's processes.", {}},
    {"container_spec_cpu_period", false, "CPU period, in microseconds.", {}},
    {"container_spec_cpu_quota", false, "CPU quota, in microseconds for each period.", {}},
    {"container_spec_cpu_shares", false, "CPU shares.", {}},
    {"container_spec_memory_limit_bytes", false, "Memory limit in bytes; 0: none.", {}},
    {"container_spec_memory_reservation_limit_bytes", false, "Memory reserved, in bytes.", {}},
    {"container_spec_memory_swap_limit_bytes", false, "Swap limit in bytes; 0: none.", {}},
    {"container_start_time_seconds", false, "When the container was started, in seconds since the epoch.", {}},
    {"container_threads", false, "Threads in the container.", {}},
    {"container_threads_max", false, "Most threads allowed in the container; 0: no limit.", {}},
    {"container_ulimits_soft", false, "Soft limits of the container's first process.", {"ulimit"}},
};
static_assert(std::size(kTable) == kMetricCount);

}  // namespace

const MetricInfo& InfoOf(Metric metric) { return kTable[static_cast<size_t>(metric)]; }

}  // namespace crisp::cri
