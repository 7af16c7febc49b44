//! Figures of this process, from the kernel: memory, descriptors, time of the CPU.

use super::check;
use super::clock;
use std::fs;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) open_descriptors: u64,
    pub(crate) max_descriptors: u64,
    pub(crate) cpu_ms: u64,
    /// When it was started, in milliseconds since 1970. It depends on two clocks, so a later call may differ by some.
    pub(crate) started_ms: u64,
}

/// The figures. `None` if the kernel does not give them: /proc may not be mounted.
pub(crate) fn figures() -> Option<Figures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process stands in brackets, and may have anything in it (proc(5)). Behind it begins field 3.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (ticks, page) = (setting(libc::_SC_CLK_TCK)?, setting(libc::_SC_PAGESIZE)?);
    let started_after_boot_ms = field(22)? * 1000 / ticks;
    Some(Figures {
        resident_bytes: field(24)? * page,
        virtual_bytes: field(23)?,
        open_descriptors: open_descriptors()?,
        max_descriptors: max_descriptors()?,
        cpu_ms: (field(14)? + field(15)?) * 1000 / ticks,
        started_ms: clock::unix_ms().saturating_sub(clock::boottime_ms().saturating_sub(started_after_boot_ms)),
    })
}

/// Since Linux 6.2 the size of the folder is their number. Before that they are counted, without the one for counting.
fn open_descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => Some((fs::read_dir(folder).ok()?.count() as u64).saturating_sub(1)),
        number => Some(number),
    }
}

fn max_descriptors() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills in one rlimit that we own.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }).ok()?;
    Some(limit.rlim_cur)
}

fn setting(name: libc::c_int) -> Option<u64> {
    // SAFETY: the call takes a number, and returns -1 for one that it does not know.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0)
}

/// The name of this machine (gethostname(2)). `None`: it has none that is UTF-8.
pub(crate) fn host_name() -> Option<String> {
    // Linux has at most 64 bytes.
    let mut name = [0_u8; 256];
    // SAFETY: the call writes at most as many bytes as it is told, into an array that we own. The last byte stays 0.
    check(unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) }).ok()?;
    let name = name.split(|byte| *byte == 0).next()?;
    String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "files of the kernel")]
    fn the_name_of_the_machine_is_that_of_the_kernel() {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(host_name().as_deref(), Some(name.trim_end()).filter(|name| !name.is_empty()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "files of the kernel")]
    fn the_figures_are_those_of_this_process() {
        let before = figures().unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = figures().unwrap();
        assert!(after.open_descriptors >= files.len() as u64, "{after:?}");
        assert!(before.resident_bytes > 1 << 20 && before.virtual_bytes >= before.resident_bytes, "{before:?}");
        assert!(before.resident_bytes < 1 << 40 && after.max_descriptors >= after.open_descriptors, "{after:?}");
        let now = clock::unix_ms();
        assert!(before.started_ms <= now && now - before.started_ms < 86_400_000, "{now} {before:?}");
        let mut number = 0u64;
        while figures().unwrap().cpu_ms <= after.cpu_ms {
            number = std::hint::black_box(number.wrapping_mul(7).wrapping_add(1));
        }
    }
}
