"""The axis names of the jaxtyping annotations, and the scalar aliases.

| axis | meaning |
| --- | --- |
| `samples` | inputs of the data set |
| `features` | coordinates of an input |
| `width` | neurons of the hidden layer |
| `order` | coefficients of a power series, lowest power first |
| `slides` | slots for the hyperplanes on which one neuron slides |
| `switches` | slots of a switch log |
| `times` | times at which a state was asked for |
"""

from jaxtyping import Array, Float, Int

FloatScalarLike = float | int | Float[Array, ""]
IntScalarLike = int | Int[Array, ""]
