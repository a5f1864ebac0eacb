//! Collects the chunks of a body, without reading them.

use alloc::vec::Vec;

use crate::decode::MAX_BODY_BYTES;

/// The part of a body that has arrived.
#[derive(Debug, Default)]
pub struct Body(Vec<u8>);

/// The body has more than [`MAX_BODY_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentTooLarge;

impl Body {
    /// Adds a chunk. The first, which is nearly always the whole body, is not copied.
    ///
    /// # Errors
    ///
    /// When the body becomes larger than [`MAX_BODY_BYTES`].
    pub fn push(&mut self, chunk: Vec<u8>) -> Result<(), ContentTooLarge> {
        if chunk.len() > MAX_BODY_BYTES - self.0.len() {
            return Err(ContentTooLarge);
        }
        if self.0.is_empty() {
            self.0 = chunk;
        } else {
            self.0.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// All bytes that have arrived.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::{Body, ContentTooLarge};
    use crate::decode::{MAX_BODY_BYTES, decode};

    proptest! {
        #[test]
        fn split_into_chunks_does_not_change_the_put(
            event in r#"[\[{"a: é😀,1}\]]{0,20}"#,
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let whole = alloc::format!(r#"{{"key":"é😀","event":{event}}}"#).into_bytes();
            let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let mut body = Body::default();
            for cut in cuts.windows(2) {
                body.push(whole[cut[0]..cut[1]].to_vec()).expect("is small");
            }
            prop_assert_eq!(decode(body.bytes()), decode(&whole));
        }
    }

    #[test]
    fn body_of_the_limit_fits_and_one_byte_more_does_not() {
        let mut body = Body::default();
        for _ in 0..16 {
            assert_eq!(body.push(vec![0; MAX_BODY_BYTES / 16]), Ok(()));
        }
        assert_eq!(body.push(vec![0]), Err(ContentTooLarge));
        assert_eq!(
            Body::default().push(vec![0; MAX_BODY_BYTES + 1]),
            Err(ContentTooLarge)
        );
        assert_eq!(body.bytes().len(), MAX_BODY_BYTES);
    }
}
