//! Tiny devices: the full flash layout in a few kilobytes, so that every operation can be cut.

use crate::nor::{Geometry, Nor};
use engine::layout::{Area, Layout};

/// What distinguishes one tiny device from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bytes of a write unit.
    pub write_size: u32,
    /// What erased bytes read as.
    pub erased: u8,
    /// Bytes of a sector of the slots.
    pub sector: u32,
    /// Sectors of the primary slot.
    pub primary_sectors: u32,
    /// Whether the secondary slot has one sector more than the primary.
    pub extra_sector: bool,
    /// Sectors that the trailer's status area is made for.
    pub max_sectors: u32,
}

impl std::fmt::Display for Shape {
    /// Such as `w8 ff 10+11x512`: write size, erased value, sectors of both slots, bytes of a sector.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape {
            write_size,
            erased,
            sector,
            primary_sectors,
            extra_sector,
            ..
        } = self;
        let secondary = primary_sectors + u32::from(*extra_sector);
        write!(f, "w{write_size} {erased:02x} {primary_sectors}+{secondary}x{sector}")
    }
}

impl Shape {
    /// Slots of 10 sectors of 512 bytes.
    pub const fn small(write_size: u32, erased: u8, extra_sector: bool) -> Shape {
        Shape {
            write_size,
            erased,
            sector: 512,
            primary_sectors: 10,
            extra_sector,
            max_sectors: 12,
        }
    }

    /// Slots of 7 sectors of 256 bytes, for all pairs of cuts.
    pub const fn tiny(write_size: u32, erased: u8, extra_sector: bool) -> Shape {
        Shape {
            write_size,
            erased,
            sector: 256,
            primary_sectors: 7,
            extra_sector,
            max_sectors: 7,
        }
    }

    /// The erased flash of this device, and what stands where in it. Sectors of the state differ from those of the slots.
    pub fn blank(&self) -> (Nor, Layout) {
        let mut plan = Plan::default();
        let layout = Layout {
            trust: [plan.area(2, 1024), plan.area(2, 1024)],
            mailbox: plan.area(4, 1600),
            boot_log: [plan.area(1, 128), plan.area(1, 128)],
            journal: [plan.area(1, 768), plan.area(1, 768)],
            head: plan.area(2, 1024),
            table: plan.area(1, 1024),
            sealed: [plan.area(2, 384), plan.area(2, 384)],
            sealed_counter: plan.area(2, 128),
            device_key: plan.area(1, 256),
            entropy: plan.area(1, 256),
            boot_update: plan.area(1, 256),
            primary: plan.area(self.primary_sectors, self.sector),
            secondary: plan.area(self.primary_sectors + u32::from(self.extra_sector), self.sector),
            max_sectors: self.max_sectors,
        };
        (
            Nor::new(Geometry::of(self.write_size, self.erased, &plan.sectors)),
            layout,
        )
    }
}

#[derive(Default)]
struct Plan {
    sectors: Vec<u32>,
}

impl Plan {
    fn area(&mut self, count: u32, sector: u32) -> Area {
        let start = self.sectors.iter().sum();
        self.sectors.extend(std::iter::repeat_n(sector, count as usize));
        Area {
            start,
            len: count * sector,
        }
    }
}

/// Shapes that every scenario is tried on: write sizes, both erased values, equal and unequal slots.
pub fn shapes(make: fn(u32, u8, bool) -> Shape) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for write_size in [1, 4, 8, 32] {
        for erased in [0xff, 0x00] {
            for extra in [false, true] {
                shapes.push(make(write_size, erased, extra));
            }
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::layout::Slots;

    #[test]
    fn every_shape_is_a_layout_that_the_engine_accepts() {
        for shape in shapes(Shape::small).into_iter().chain(shapes(Shape::tiny)) {
            let (nor, layout) = shape.blank();
            assert_eq!(layout.check(&nor), Ok(()), "{shape:?}");
            let slots = Slots::new(&layout, &nor).unwrap();
            println!("{shape:?}: images up to {} bytes", slots.image_len_max());
            assert!(slots.image_len_max() >= 2 * shape.sector);
        }
    }
}
