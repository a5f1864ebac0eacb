//! The contents of a file on the disk, and the unsynced changes.
//!
//! The names of files are in `names`.

use fastrand::Rng;

/// The size in bytes of a sector, which the disk writes atomically.
const SECTOR_BYTES: usize = 512;

/// A file as the disk knows it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Content {
    /// The contents that are on the disk in any case.
    synced: Vec<u8>,
    /// The later changes in their order, which may be on the disk or not.
    unsynced: Vec<Change>,
    /// Whether some of the contents that programs read will not be written by any sync: a sync has failed, and
    /// the system considers its pages written.
    is_partly_forgotten: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// The effect of a loss of power on unsynced changes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loss {
    Everything,
    Nothing,
    /// Only the first changes are kept: this percentage of them.
    After(u32),
    /// A random part is lost; of some writes a few sectors.
    Random,
}

impl Loss {
    pub(crate) fn random(random: &mut Rng) -> Self {
        match random.u8(..8) {
            0 => Self::Everything,
            1 => Self::Nothing,
            2 | 3 => Self::After(random.u32(..100)),
            _ => Self::Random,
        }
    }
}

impl Content {
    /// A file whose contents are on the disk.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self {
            synced: bytes,
            ..Self::default()
        }
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.unsynced.push(Change::Write { offset, bytes });
    }

    pub(crate) fn resize(&mut self, length: usize) {
        self.unsynced.push(Change::Resize(length));
    }

    pub(crate) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.reach(&mut self.synced);
        }
    }

    /// A failed sync: a random part of the changes got to the disk. The rest either waits for the next sync, or
    /// no sync writes it, although programs still read it.
    pub(crate) fn fail_to_sync(&mut self, random: &mut Rng) {
        if random.bool() {
            return;
        }
        for change in self.unsynced.drain(..) {
            match change {
                // Lengths are in the journal of the file system.
                Change::Resize(_) => change.reach(&mut self.synced),
                Change::Write { .. } => {
                    self.is_partly_forgotten |= !change.reach_perhaps(&mut self.synced, random);
                }
            }
        }
    }

    pub(crate) fn is_partly_forgotten(&self) -> bool {
        self.is_partly_forgotten
    }

    /// The whole file was written again and synced.
    pub(crate) fn renew(&mut self, bytes: Vec<u8>) {
        *self = Self::of(bytes);
    }

    /// The contents after a loss of power.
    pub(crate) fn after(&self, loss: Loss, random: &mut Rng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let count = self.unsynced.len();
        for (number, change) in self.unsynced.iter().enumerate() {
            match loss {
                Loss::Everything => {}
                Loss::Nothing => change.reach(&mut bytes),
                Loss::After(percent) if number * 100 < count * percent as usize => {
                    change.reach(&mut bytes);
                }
                Loss::After(_) => {}
                Loss::Random => {
                    change.reach_perhaps(&mut bytes, random);
                }
            }
        }
        bytes
    }
}

impl Change {
    fn reach(&self, disk: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write_at(disk, *offset, bytes),
            Self::Resize(length) => disk.resize(*length, 0),
        }
    }

    /// Reaches the disk completely, partly or not. Returns whether completely.
    fn reach_perhaps(&self, disk: &mut Vec<u8>, random: &mut Rng) -> bool {
        match (random.u8(..3), self) {
            (0, _) => return false,
            (1, Self::Write { offset, bytes }) => {
                let mut start = 0;
                while start < bytes.len() {
                    let in_sector = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
                    let end = bytes.len().min(start + in_sector);
                    if random.bool() {
                        write_at(disk, offset + start, &bytes[start..end]);
                    }
                    start = end;
                }
                return false;
            }
            _ => self.reach(disk),
        }
        true
    }
}

fn write_at(disk: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if disk.len() < end {
        disk.resize(end, 0);
    }
    disk[offset..end].copy_from_slice(bytes);
}

#[test]
fn loss_takes_only_unsynced_writes() {
    let mut random = Rng::with_seed(1);
    let mut content = Content::default();
    content.write(0, &[1; 2000]);
    content.sync();
    content.write(1000, &[2; 2000]);
    content.resize(2500);
    let all = [vec![1; 1000], vec![2; 1500]].concat();
    assert_eq!(content.after(Loss::Everything, &mut random), vec![1; 2000]);
    assert_eq!(content.after(Loss::Nothing, &mut random), all);
    for _ in 0..100 {
        let left = content.after(Loss::Random, &mut random);
        assert_eq!(left[..1000], [1; 1000]);
        let sector = &left[1024..1536];
        assert!(sector.iter().all(|byte| *byte == sector[0]));
    }
    content.sync();
    assert_eq!(content.after(Loss::Everything, &mut random), all);
}
