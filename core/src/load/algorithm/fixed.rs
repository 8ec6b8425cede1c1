//! A limit that does not move.

use super::Bounds;

#[derive(Clone, Debug)]
pub(super) struct Fixed(u32);

impl Fixed {
    pub(super) const fn new(bounds: Bounds) -> Fixed {
        Fixed(bounds.initial)
    }

    pub(super) const fn limit(&self) -> u32 {
        self.0
    }
}
