//! A value of a type parameter as the type that it is known to be: no more than a comparison of types, which the compiler
//! decides.

use std::{any::TypeId, mem::ManuallyDrop};

/// `value` as type `B`; `None`, with `value` dropped, if its type is another one.
#[allow(unsafe_code)]
#[inline(always)]
pub fn same<A: 'static, B: 'static>(value: A) -> Option<B> {
    if TypeId::of::<A>() != TypeId::of::<B>() {
        return None;
    }
    let value = ManuallyDrop::new(value);
    // SAFETY: `A` and `B` are one type. The value is moved: the source is not dropped.
    Some(unsafe { std::mem::transmute_copy::<ManuallyDrop<A>, B>(&value) })
}

/// `value` as type `B`; `None` if its type is another one.
#[allow(unsafe_code)]
#[inline(always)]
pub fn same_ref<A: 'static, B: 'static>(value: &A) -> Option<&B> {
    // SAFETY: `A` and `B` are one type.
    (TypeId::of::<A>() == TypeId::of::<B>()).then(|| unsafe { &*std::ptr::from_ref(value).cast::<B>() })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_value_is_moved_once() {
        let value = Rc::new(1);
        assert_eq!(same_ref::<_, Rc<i32>>(&value).map(Rc::strong_count), Some(1));
        assert!(same_ref::<_, Rc<u32>>(&value).is_none());
        let moved: Rc<i32> = same(value.clone()).unwrap();
        assert_eq!(Rc::strong_count(&moved), 2);
        assert!(same::<_, Rc<u32>>(moved).is_none());
        assert_eq!(Rc::strong_count(&value), 1);
    }
}
