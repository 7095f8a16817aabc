from inspect_pop.api import (
    InspectionResult as InspectionResult,
)
from inspect_pop.api import (
    Inspector as Inspector,
)
from inspect_pop.api import (
    JointTable as JointTable,
)
from inspect_pop.api import (
    JointView as JointView,
)
from inspect_pop.api import (
    Limits as Limits,
)
from inspect_pop.api import (
    Picture as Picture,
)
from inspect_pop.api import (
    PopError as PopError,
)
from inspect_pop.api import (
    Segmentation as Segmentation,
)
from inspect_pop.api import (
    compute_yield as compute_yield,
)
from inspect_pop.api import (
    find_exports as find_exports,
)
from inspect_pop.api import (
    open_export as open_export,
)
from inspect_pop.api import (
    open_store as open_store,
)
from inspect_pop.api import (
    segment_picture as segment_picture,
)
from inspect_pop.api import (
    simulate_boards as simulate_boards,
)

__version__: str
