"""That the table is exact: the interleavings that broke simpler versions, stepped with real locks on real connections.

``stepping`` has the actors and ``scene`` what they act on. ``mutations`` takes one mechanism at a time out of the
package and names the tests that must then fail; ``stress`` looks for interleavings nobody thought of.
"""
