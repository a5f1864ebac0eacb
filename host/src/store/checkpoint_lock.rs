//! Whether a checkpoint runs at this moment, as `/proc/locks` tells.
//!
//! Never takes a lock, and never opens a file that SQLite has locks on.

/// The byte of a `-shm` that SQLite locks while it moves pages: the second of those that are locks.
#[cfg(target_os = "linux")]
const CHECKPOINT_BYTE: u64 = 121;

/// How often the table is read before a lock is not in it: a long one is read in parts, between which
/// others change it.
#[cfg(target_os = "linux")]
const LOOKS: usize = 3;

/// Whether the file with this number, a `-shm`, is locked by who moves pages. A process in another
/// namespace of process numbers is not seen, nor any on another system than Linux.
pub(super) fn is_held(inode: u64) -> bool {
    #[cfg(target_os = "linux")]
    {
        (0..LOOKS).any(|_| {
            let locks = std::fs::read_to_string("/proc/locks");
            locks.is_ok_and(|locks| locks.lines().any(|line| is_checkpoint(line, inode)))
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = inode;
        false
    }
}

/// Whether a line of the table, such as `1: POSIX  ADVISORY  WRITE 4321 fe:00:123 120 121`, is that
/// lock. Neighbours of one process are one line; those that wait for a lock have an arrow. The
/// device is not compared: that of a layered file system is not the one which files tell.
#[cfg(target_os = "linux")]
fn is_checkpoint(line: &str, inode: u64) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "POSIX", _, "WRITE", _, file, start, end] = words[..] else {
        return false;
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let is_file = file.rsplit(':').next().and_then(number) == Some(inode);
    let is_up_to = number(end).is_some_and(|end| end >= CHECKPOINT_BYTE);
    is_file && is_up_to && number(start).is_some_and(|start| start <= CHECKPOINT_BYTE)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::is_checkpoint;

    #[test]
    fn lock_of_a_checkpoint_is_told_from_others() {
        let line = |kind, range| format!("1: POSIX  ADVISORY  {kind} 4321 fe:00:123 {range}");
        assert!(is_checkpoint(&line("WRITE", "121 121"), 123));
        assert!(is_checkpoint(&line("WRITE", "120 121"), 123));
        assert!(!is_checkpoint(&line("WRITE", "121 121"), 124));
        assert!(!is_checkpoint(&line("WRITE", "120 120"), 123));
        assert!(!is_checkpoint(&line("READ", "121 121"), 123));
        assert!(!is_checkpoint(&line("WRITE", "0 EOF"), 123));
        let waiting = "1: -> POSIX  ADVISORY  WRITE 4321 fe:00:123 121 121";
        assert!(!is_checkpoint(waiting, 123));
    }
}
