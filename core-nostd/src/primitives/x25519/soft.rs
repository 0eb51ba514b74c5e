//! One lane of portable code.

use super::field::FieldElement;
use super::lanes::{FieldLanes, LANES_MAX, multiply_base};
use super::scalar::Multiplier;
use super::table::{FixedBaseTable, TableEntry};

/// [`multiply_base`] in portable code.
pub(super) fn multiply(
    multipliers: &[Multiplier],
    table: &FixedBaseTable<'_>,
    coordinates: &mut [[u8; 32]],
) {
    multiply_base::<FieldElement>(multipliers, table, coordinates);
}

impl FieldLanes for FieldElement {
    const LANES: usize = 1;

    #[inline(always)]
    fn load(elements: &[FieldElement; LANES_MAX]) -> FieldElement {
        elements[0]
    }

    #[inline(always)]
    fn store(self, elements: &mut [FieldElement; LANES_MAX]) {
        elements[0] = self;
    }

    #[inline(always)]
    fn load_entries(
        entries: &[&TableEntry; LANES_MAX],
        digits: &[i32; LANES_MAX],
    ) -> [FieldElement; 3] {
        let [plus, minus, xy2d] = entries[0].elements();
        if digits[0] < 0 {
            [minus, plus, FieldElement::ZERO.sub(xy2d)]
        } else {
            [plus, minus, xy2d]
        }
    }

    #[inline(always)]
    fn add(self, rhs: FieldElement) -> FieldElement {
        self.add(rhs)
    }

    #[inline(always)]
    fn sub(self, rhs: FieldElement) -> FieldElement {
        self.sub(rhs)
    }

    #[inline(always)]
    fn mul(self, rhs: FieldElement) -> FieldElement {
        self.mul(rhs)
    }

    #[inline(always)]
    fn carry(self) -> FieldElement {
        self.carry()
    }
}
