"""For all tests."""

import salt._logging

# Salt keeps early log records for a handler that its daemons configure later. In tests nothing ever does, and at the
# end they would go to a stream that is closed by then.
salt._logging.shutdown_temp_handler()
