//! File systems that deliver no events for what other machines write.

use std::path::Path;

/// `f_type` of statfs(2) → name. From linux/magic.h; virtiofs and every other FUSE file system share one number.
const WITHOUT_EVENTS: [(u64, &str); 8] = [
    (0x0102_1997, "9p"),
    (0x6969, "NFS"),
    (0x6573_5546, "FUSE or virtiofs"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x786f_4256, "vboxsf"),
];

/// The name of the file system at `path` if it must be polled; nothing if its events can be relied on, or `path` can't be asked.
#[cfg(target_os = "linux")]
pub(super) fn must_be_polled(path: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(path).ok()?;
    // The type of f_type differs between architectures; the magic numbers are 32 bits wide.
    name_of(found.f_type as u64 & 0xffff_ffff)
}

/// Elsewhere the system's own event service decides.
#[cfg(not(target_os = "linux"))]
pub(super) fn must_be_polled(_path: &Path) -> Option<&'static str> {
    None
}

fn name_of(magic: u64) -> Option<&'static str> {
    WITHOUT_EVENTS.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minikube_mount_is_polled_and_a_local_disk_is_not() {
        assert_eq!(name_of(0x0102_1997), Some("9p"));
        assert_eq!(name_of(0xef53), None, "ext4");
        let home = tempfile::tempdir().unwrap();
        assert_eq!(must_be_polled(home.path()), None);
    }
}
